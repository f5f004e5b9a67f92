package containerinit_test

import (
	"slices"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// rewritten is a task whose container has changed its users.
func rewritten(t *testing.T, script string) *task {
	t.Helper()
	k := startTask(t, taskOptions{writable: true})
	main := nobody()
	main.User = "root"
	startForever(t, k, main)
	process := &agentv1.ProcessSpec{Args: []string{"/busybox", "sh", "-c", script}, Env: []string{"PATH=/"}}
	if out, code := run(t, k.client(), "rewrite", process); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	return k
}

func TestANumberIsNoUsersNameAndNoGroups(t *testing.T) {
	t.Parallel()
	k := rewritten(t, "echo 1000:x:0:0::/root: > /etc/passwd; echo alice:x:1000:7::/home/alice: >> /etc/passwd;"+
		"echo 29:x:0: > /etc/group; echo audio:x:29:alice >> /etc/group")
	for id, c := range map[string]struct {
		process *agentv1.ProcessSpec
		want    map[string]string
	}{
		"user":  {&agentv1.ProcessSpec{User: "1000"}, map[string]string{"Uid": "1000 1000 1000 1000", "Gid": "7 7 7 7", "Groups": "7 29", "CapEff": noCapabilities}},
		"group": {&agentv1.ProcessSpec{User: "5:29"}, map[string]string{"Uid": "5 5 5 5", "Gid": "29 29 29 29", "Groups": "29"}},
		"added": {&agentv1.ProcessSpec{User: "5:6", AdditionalGroups: []string{"29"}}, map[string]string{"Groups": "6 29"}},
	} {
		c.process.Args = []string{"probe", "who"}
		out, _ := run(t, k.client(), id, c.process)
		expect(t, facts(out), c.want)
	}
}

func TestAPipeInThePlaceOfThePasswdFileStopsNothing(t *testing.T) {
	t.Parallel()
	k := rewritten(t, "/busybox rm /etc/passwd && /busybox mkfifo /etc/passwd")
	out, _ := run(t, k.client(), "who", &agentv1.ProcessSpec{Args: []string{"probe", "who"}, User: "1000"})
	expect(t, facts(out), map[string]string{"Uid": "1000 1000 1000 1000", "Gid": "0 0 0 0"})
	response, err := k.client().Top(patience(t), connect.NewRequest(&agentv1.TopRequest{PsArgs: "-eo pid,user"}))
	must(t, err)
	if !slices.ContainsFunc(response.Msg.Processes, func(row *agentv1.ProcessRow) bool { return row.Columns[1] == "0" }) {
		t.Errorf("the processes: %v", response.Msg)
	}
}
