package shim_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
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

func TestTheExitRecordIsWrittenBeforeTheExitIsReported(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	events := c.watch()
	c.mustRun()
	c.signal("", 9)
	exited := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExited() != nil }).GetExited()
	if state := c.recorded(); state.Exit.GetCode() != exited.Code || exited.Signal != 9 {
		t.Fatalf("recorded %v, told %v", state, exited)
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
			_, err := os.Stat(c.spec.ExitRecord)
			assert.NilError(t, err)
		})
	}
}

func TestAShimWhoseContainerIsNotPreparedLeaves(t *testing.T) {
	readiness, ready, err := os.Pipe()
	must(t, err)
	defer readiness.Close()
	waiting, specified, err := os.Pipe()
	must(t, err)
	shim := exec.Command("/proc/self/exe", "shim", "--spec", filepath.Join(t.TempDir(), "shim.json"))
	shim.ExtraFiles = []*os.File{waiting, ready, waiting} // nobody connects: any file does as the socket
	must(t, shim.Start())
	waiting.Close()
	ready.Close()
	specified.Close() // as the kernel does when the host process is killed
	line, err := io.ReadAll(readiness)
	if err != nil || len(line) > 0 {
		t.Errorf("readiness %q, %v", line, err)
	}
	if err := shim.Wait(); shim.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
}
