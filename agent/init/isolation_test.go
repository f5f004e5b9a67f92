package containerinit_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// facts parses the output of `probe who`.
func facts(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[name] = value
	}
	return found
}

const (
	noCapabilities = "0000000000000000"
	dockerSet      = "00000000a80425fb"
)

func expect(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %q instead of %q", name, got[name], want[name])
		}
	}
}

// startForever starts a main process that stays.
func startForever(t *testing.T, k *task, process *agentv1.ProcessSpec) {
	t.Helper()
	process.Args = []string{"probe", "forever"}
	if response := start(t, k.client(), &agentv1.StartRequest{Process: process}); response.GetStarted() == nil {
		t.Fatalf("start answered %v", response)
	}
}

func TestProcessesHaveTheIdentityThatDockerWouldGive(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	startForever(t, k, nobody())
	client := k.client()
	for i, c := range []struct {
		name    string
		process *agentv1.ProcessSpec
		want    map[string]string
	}{
		{"the container's user", &agentv1.ProcessSpec{}, map[string]string{
			"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "65534",
			"CapInh": noCapabilities, "CapPrm": noCapabilities, "CapEff": noCapabilities, "CapAmb": noCapabilities, "CapBnd": dockerSet,
			"NoNewPrivs": "0", "Umask": "0022", "Dir": "/", "Leader": "true", "OOM": "100",
			"SigIgn": noCapabilities, "SigBlk": noCapabilities,
		}},
		{"root", &agentv1.ProcessSpec{User: "root"}, map[string]string{
			"Uid": "0 0 0 0", "Gid": "0 0 0 0", "Groups": "0",
			"CapInh": noCapabilities, "CapPrm": dockerSet, "CapEff": dockerSet, "CapAmb": noCapabilities, "CapBnd": dockerSet,
		}},
		{"a user with groups", &agentv1.ProcessSpec{User: "alice", AdditionalGroups: []string{"77"}, WorkingDir: "/data"}, map[string]string{
			"Uid": "1000 1000 1000 1000", "Gid": "1000 1000 1000 1000", "Groups": "29 77 1000", "CapEff": noCapabilities, "Dir": "/data",
		}},
		{"numbers", &agentv1.ProcessSpec{User: "12:34", Umask: 0o077, NoNewPrivileges: true}, map[string]string{
			"Uid": "12 12 12 12", "Gid": "34 34 34 34", "Umask": "0077", "NoNewPrivs": "1",
		}},
		{"privileged", &agentv1.ProcessSpec{User: "0", Privileged: true}, map[string]string{"CapEff": dockerSet, "CapBnd": dockerSet}},
	} {
		c.process.Args = []string{"probe", "who"}
		out, code := run(t, client, fmt.Sprint("who", i), c.process)
		assert.Check(t, code == 0, "%s: exit code %d", c.name, code)
		t.Run(c.name, func(t *testing.T) { expect(t, facts(out), c.want) })
	}
}

func TestDroppedCapabilitiesStayDropped(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	main := nobody()
	main.User, main.Capabilities, main.NoNewPrivileges = "0", []string{"CAP_CHOWN"}, true
	startForever(t, k, main)
	out, _ := run(t, k.client(), "who", &agentv1.ProcessSpec{Args: []string{"probe", "who"}})
	expect(t, facts(out), map[string]string{"CapEff": "0000000000000001", "CapPrm": "0000000000000001", "CapBnd": "0000000000000001", "NoNewPrivs": "1", "Uid": "0 0 0 0"})
}

func TestWhatThePlatformDoesNotGrantIsRefusedByName(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	process := nobody("probe", "forever")
	process.Capabilities = append(slices.Clone(dockerCapabilities), "CAP_SYS_ADMIN")
	response := start(t, k.client(), &agentv1.StartRequest{Process: process})
	assert.Check(t, strings.Contains(response.GetFailure().GetMessage(), "CAP_SYS_ADMIN"), "start answered %v", response)
}

func TestNothingOfTheAgentsReachesTheProcess(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{env: []string{"SOCKERLESS_LINGER=1h"}})
	startForever(t, k, nobody())
	client := k.client()
	out, _ := run(t, client, "env", &agentv1.ProcessSpec{Args: []string{"probe", "env"}, Env: []string{"MINE=2", "MORE="}})
	got := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(got)
	want := []string{"AWS_REGION=eu-west-1", "ECS_AGENT_URI=http://x", "HOME=/nonexistent", "MINE=2", "MORE=", "PATH=/"}
	assert.Check(t, slices.Equal(got, want), "environment %q", got)
	if out, _ := run(t, client, "fds", &agentv1.ProcessSpec{Args: []string{"probe", "fds"}}); out != "0 1 2\n" {
		t.Errorf("descriptors %q", out)
	}
	for _, name := range []string{"environ", "mem", "fd/3", "maps"} {
		out, _ := run(t, client, "read "+name, &agentv1.ProcessSpec{Args: []string{"probe", "read", "/proc/1/" + name}, User: "root"})
		assert.Check(t, strings.Contains(out, "permission denied"), "root reads the agent's %s: %.100q", name, out)
	}
	if out, _ := run(t, client, "reopen", &agentv1.ProcessSpec{Args: []string{"probe", "reopen"}}); out != "by name" {
		t.Errorf("stdout by name: %q", out)
	}
}

func TestAnExecThatCannotRunSaysWhy(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	startForever(t, k, nobody())
	client := k.client()
	for i, c := range []struct {
		process *agentv1.ProcessSpec
		code    int32
		reason  string
	}{
		{&agentv1.ProcessSpec{Args: []string{"nowhere"}}, 127, `exec: "nowhere": executable file not found in $PATH`},
		{&agentv1.ProcessSpec{Args: []string{"/nowhere"}}, 127, "no such file or directory"},
		{&agentv1.ProcessSpec{Args: []string{"/noexec"}}, 126, "permission denied"},
		{&agentv1.ProcessSpec{Args: []string{"/etc"}}, 126, "permission denied"},
		{&agentv1.ProcessSpec{Args: []string{"/garbage"}}, 126, "exec format error"},
		{&agentv1.ProcessSpec{Args: []string{"probe"}, WorkingDir: "/none"}, 127, `chdir to cwd ("/none")`},
		{&agentv1.ProcessSpec{Args: []string{"probe"}, User: "bob"}, 126, "unable to find user bob: no matching entries in passwd file"},
		{&agentv1.ProcessSpec{Args: []string{"probe", "a\x00b"}}, 126, "NUL"},
	} {
		last := execute(t, client, fmt.Sprint("fails", i), c.process).end()
		if failure := last.GetError(); failure.GetExitCode() != c.code || !strings.Contains(failure.GetMessage(), c.reason) {
			t.Errorf("%q: %v", c.process.Args, last)
		}
	}
}

func TestATerminalIsOne(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	startForever(t, k, nobody())
	client := k.client()
	c := execute(t, client, "tty", &agentv1.ProcessSpec{Args: []string{"probe", "tty"}, Tty: true, ConsoleSize: &agentv1.ConsoleSize{Height: 30, Width: 100}})
	c.until("tty true 30x100 0\r\n")
	_, err := client.Resize(patience(t), connect.NewRequest(&agentv1.ResizeRequest{ExecId: "tty", Size: &agentv1.ConsoleSize{Height: 40, Width: 120}}))
	must(t, err)
	c.until("now 40x120 0\r\n")
	c.write("typed\n")
	if code := c.exit(); code != 0 || !strings.HasSuffix(c.stdout.String(), "typed\r\nread \"typed\\n\"\r\n") {
		t.Errorf("code %d, %q", code, c.stdout.String())
	}
	c = execute(t, client, "interrupted", &agentv1.ProcessSpec{Args: []string{"probe", "forever"}, Tty: true})
	c.write("\x03")
	if code := c.exit(); code != 128+int(syscall.SIGINT) && code != 2 {
		t.Errorf("ctrl-C: exit code %d", code)
	}
}

func TestWantOfMemoryTakesTheProcessAndNotTheAgent(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{
		resources: map[string]any{"memory": map[string]any{"limit": 96 << 20, "swap": 96 << 20}},
		arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"},
	})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "eat", "500")})
	told := false
	for watch.Receive() && watch.Msg().GetExited() == nil {
		told = told || watch.Msg().GetOom() != nil
	}
	if exit := watch.Msg().GetExited(); exit.GetCode() != 137 || !exit.GetOomKilled() || !told {
		t.Errorf("exit %v, told %v, %v", exit, told, watch.Err())
	}
	if response := start(t, client, &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "say", "fine", "0")}); response.GetStarted() == nil {
		t.Errorf("the next start answered %v", response)
	}
	awaitExited(watch)
	if exit := watch.Msg().GetExited(); exit.GetCode() != 0 || exit.GetOomKilled() {
		t.Errorf("the next exit: %v, %v", exit, watch.Err())
	}
}

func TestLimitsAreThePlatforms(t *testing.T) {
	t.Parallel()
	// Go programs raise their own soft limit, so a shell is asked.
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	k := startTask(t, taskOptions{})
	startForever(t, k, nobody())
	out, code := run(t, k.client(), "limits", &agentv1.ProcessSpec{Args: []string{"busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"}})
	if out != "1234\n2345\n" || code != 0 {
		t.Errorf("limits %q, code %d", out, code)
	}
}
