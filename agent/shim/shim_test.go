package shim_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

func TestAnAttachmentBeforeTheStartGetsEveryByteAndTheExitCode(t *testing.T) {
	needRuntime(t)
	rounds := 100
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		t.Run("", func(t *testing.T) {
			c := launch(t, launchOptions{args: sh("echo out; echo err >&2; exit 7")})
			s := c.attach(&agentv1.OpenAttach{AttachId: "a"})
			c.mustRun("a")
			s.finish().expectExit(7)
			if s.stdout.String() != "out\n" || s.stderr.String() != "err\n" {
				t.Fatalf("stdout %q, stderr %q", s.stdout.String(), s.stderr.String())
			}
			if s.started == nil || s.started.Pid != 0 {
				t.Fatalf("started: %v", s.started)
			}
		})
	}
}

func TestTheExitRecordIsWrittenBeforeTheExitIsTold(t *testing.T) {
	c := launch(t, launchOptions{args: sh("kill -9 $$")})
	events := c.watch()
	c.mustRun()
	exited := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExited() != nil }).GetExited()
	content, err := os.ReadFile(c.spec.ExitRecord)
	must(t, err)
	var record shimspec.ExitRecord
	must(t, json.Unmarshal(content, &record))
	state := &agentv1.ContainerState{}
	must(t, protojson.Unmarshal(record.State, state))
	if record.ContainerID != c.spec.ContainerID || record.Generation != 1 || state.Exit.GetCode() != exited.Code {
		t.Fatalf("record %s, told %v", content, exited)
	}
}

func TestACommandThatCannotBeExecutedIsTheStartsAnswer(t *testing.T) {
	cases := []struct {
		args    []string
		code    int32
		message string
	}{
		{[]string{"nosuch"}, 127, `failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown`},
		{[]string{"/bin/notexec"}, 126, `exec: "/bin/notexec": permission denied: unknown`},
		{[]string{"/etc"}, 126, `permission denied: unknown`},
	}
	for _, test := range cases {
		t.Run(test.args[0], func(t *testing.T) {
			c := launch(t, launchOptions{args: test.args})
			s := c.attach(&agentv1.OpenAttach{AttachId: "a"})
			failure := c.run("a").GetFailure()
			if failure.GetExitCode() != test.code || !strings.HasSuffix(failure.GetMessage(), test.message) {
				t.Fatalf("failure %v", failure)
			}
			if s.finish().failure.GetExitCode() != test.code && s.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING {
				t.Fatalf("session: %v", s.failure)
			}
			if _, err := os.Stat(c.spec.ExitRecord); err != nil {
				t.Fatal(err)
			}
		})
	}
}
