package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestAnExecEntersByTheSmallProgramAndWithoutItByTheAgent(t *testing.T) {
	needRuntime(t)
	small, err := enterProgram()
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	for name, program := range map[string]string{filepath.Base(small): small, "": self, "no-such-program": self} {
		t.Setenv(enterVariable, name)
		c := confined(t, func(map[string]any) {}, seccomp())
		wanted, err := os.Stat(program)
		must(t, err)
		held, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.shim.Process.Pid))
		must(t, err)
		if !slices.ContainsFunc(held, func(fd string) bool {
			info, err := os.Stat(fd)
			return err == nil && os.SameFile(info, wanted)
		}) {
			t.Errorf("%q: the shim does not hold %s", name, program)
		}
		c.exec("exec", &agentv1.ProcessSpec{Args: []string{"/bin/sh", "-c", "exit 5"}}).finish().expectExit(5)
	}
}

func TestExecExitCodes(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	cases := []struct {
		args   []string
		code   int32
		signal int32
	}{
		{sh("exit 0"), 0, 0},
		{sh("exit 42"), 42, 0},
		{sh("kill -9 $$"), 137, 9},
		{sh("kill -15 $$"), 143, 15},
	}
	for i, test := range cases {
		s := c.exec(fmt.Sprint("e", i), &agentv1.ProcessSpec{Args: test.args}).finish()
		s.expectExit(test.code)
		if s.exit.Signal != test.signal {
			t.Fatalf("signal %d", s.exit.Signal)
		}
	}
}

func TestAnExecThatCannotBeExecutedSaysWhy(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	cases := []struct {
		process *agentv1.ProcessSpec
		code    int32
		message string
	}{
		{&agentv1.ProcessSpec{Args: []string{"nosuch"}}, 127, `OCI runtime exec failed: exec failed: unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown`},
		{&agentv1.ProcessSpec{Args: []string{"/bin/notexec"}}, 126, `OCI runtime exec failed: exec failed: unable to start container process: exec: "/bin/notexec": permission denied: unknown`},
		{&agentv1.ProcessSpec{Args: []string{"true"}, User: "nosuch"}, 126, `unable to find user nosuch: no matching entries in passwd file`},
	}
	for i, test := range cases {
		id := fmt.Sprint("e", i)
		s := c.exec(id, test.process).finish()
		if s.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED ||
			s.failure.ExitCode != test.code || s.failure.Message != test.message {
			t.Errorf("%v: %v", test.process, s.failure)
		}
		if record := c.inspect(id); record.Running || record.Exit.GetCode() != test.code {
			t.Errorf("record %v", record)
		}
	}
}

// A container that traces never uses the runtime, so the message is not the
// runtime's.
func TestAnExecThatCannotBeExecutedSaysWhyInTheRuntimesWordsWithoutIt(t *testing.T) {
	runtimes, ours := launch(t, launchOptions{args: sleeper}), launch(t, launchOptions{args: sleeper, config: func(config map[string]any) {
		sets := config["process"].(map[string]any)["capabilities"].(map[string]any)
		for name, set := range sets {
			sets[name] = append(slices.Clone(set.([]string)), "CAP_SYS_PTRACE")
		}
	}})
	runtimes.mustRun()
	ours.mustRun()
	must(t, os.Rename(ours.spec.RuntimeRoot, ours.spec.RuntimeRoot+".away"))
	defer func() { must(t, os.Rename(ours.spec.RuntimeRoot+".away", ours.spec.RuntimeRoot)) }()
	for i, process := range []*agentv1.ProcessSpec{
		{Args: []string{"nosuch"}}, {Args: []string{"/bin/nosuch"}}, {Args: []string{"bin/nosuch"}}, {Args: []string{"/bin/notexec"}},
		{Args: []string{"/etc"}}, {Args: []string{"/bin/true/false"}}, {Args: []string{""}}, {Args: []string{strings.Repeat("x/", 2500)}},
		{Args: []string{"true"}, Env: []string{"PATH="}}, {Args: []string{"true"}, WorkingDir: "/nosuch"},
		{Args: []string{"true"}, WorkingDir: "/etc/passwd"}, {Args: []string{"nosuch"}, Tty: true},
	} {
		wanted, got := runtimes.exec(fmt.Sprint("e", i), process).finish(), ours.exec(fmt.Sprint("e", i), process).finish()
		if wanted.failure == nil || got.failure.GetMessage() != wanted.failure.Message || got.failure.GetExitCode() != wanted.failure.ExitCode {
			t.Errorf("%v: %v, expected %v", process, got.failure, wanted.failure)
		}
	}
}

func TestAnExecRunsAsAsked(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	cases := []struct {
		process *agentv1.ProcessSpec
		want    string
	}{
		{&agentv1.ProcessSpec{Args: sh("echo $FROM-$EXTRA"), Env: []string{"EXTRA=a", "EXTRA=b"}}, "main-b\n"},
		{&agentv1.ProcessSpec{Args: sh("echo $FROM"), Env: []string{"FROM=exec"}}, "exec\n"},
		{&agentv1.ProcessSpec{Args: []string{"pwd"}, WorkingDir: "/tmp"}, "/tmp\n"},
		{&agentv1.ProcessSpec{Args: []string{"id"}, User: "alice"}, "uid=1234(alice) gid=1235 groups=50(staff),1235\n"},
		{&agentv1.ProcessSpec{Args: sh("id -u; id -g"), User: "7:staff"}, "7\n50\n"},
		{&agentv1.ProcessSpec{Args: sh("grep CapBnd /proc/self/status")}, "CapBnd:\t00000000000010e3\n"},
		{&agentv1.ProcessSpec{Args: sh("grep CapEff /proc/self/status"), Privileged: true}, "CapEff:\t" + ownCapabilities(t) + "\n"},
	}
	for i, test := range cases {
		s := c.exec(fmt.Sprint("e", i), test.process).finish()
		s.expectExit(0)
		if got := s.stdout.String(); got != test.want {
			t.Errorf("%v: got %q, expected %q", test.process, got, test.want)
		}
	}
}

func ownCapabilities(t *testing.T) string {
	content, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(content), "CapPrm:\t")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func TestAnExecStartsOnce(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish()
	if s.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_EXISTS {
		t.Fatal(s.failure)
	}
}

func TestAnExecsEndIsKnownBeforeItsSessionEnds(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	events := c.watch()
	for i := range 20 {
		id := fmt.Sprint("e", i)
		s := c.exec(id, &agentv1.ProcessSpec{Args: sh("exit 3")})
		for s.exit == nil {
			s.next()
		}
		if record := c.inspect(id); record.Running || record.Exit.GetCode() != 3 {
			t.Fatalf("record %v", record)
		}
		await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExecEnded().GetExecId() == id })
	}
	// A later watcher has them in its first message.
	state := await(t, c.watch(), func(*agentv1.WatchResponse) bool { return true }).GetState()
	if len(state.EndedExecs) != 20 {
		t.Fatalf("%d execs in the state", len(state.EndedExecs))
	}
}

func TestManyExecsAtOnce(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	var all sync.WaitGroup
	for i := range 32 {
		s := c.exec(fmt.Sprint("e", i), &agentv1.ProcessSpec{Args: sh("cat; echo %d; exit %d", i, i)}, withStdin)
		all.Add(1)
		go func() {
			defer all.Done()
			if err := s.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}}); err != nil {
				t.Error(err)
			}
			for {
				response, err := s.stream.Receive()
				if err != nil {
					t.Error(err)
					return
				}
				if output := response.GetStdout(); output != nil {
					s.stdout.Write(output.Data)
				}
				if exit := response.GetExit(); exit != nil {
					if exit.Code != int32(i) || s.stdout.String() != fmt.Sprintln(i) {
						t.Errorf("exec %d: %v %q", i, exit, s.stdout.String())
					}
					return
				}
				if response.GetError() != nil {
					t.Error(response.GetError())
					return
				}
			}
		}()
	}
	all.Wait()
}

func TestADetachedExecGoesOnByItself(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	events := c.watch()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("exit 9")}, func(o *agentv1.OpenExec) { o.Detach = true })
	if s.finish(); !s.detached || s.started == nil {
		t.Fatal("not detached")
	}
	ended := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExecEnded() != nil }).GetExecEnded()
	assert.Assert(t, ended.Exit.Code == 9, ended)
}

func TestAnExecOutlivesItsClient(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	events := c.watch()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done")})
	s.until("up\n")
	s.vanish()
	assert.Assert(t, c.inspect("e").Running, "the exec ended with its client")
	c.signal("e", int32(unix.SIGTERM))
	ended := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExecEnded() != nil }).GetExecEnded()
	assert.Assert(t, ended.Exit.Code == 4, ended)
}

func TestNoExecWithoutARunningContainer(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish()
	if s.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING {
		t.Fatal(s.failure)
	}
	if _, err := c.client.ExecInspect(contextFor(t), connect.NewRequest(&agentv1.ExecInspectRequest{ExecId: "e"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Fatal(err)
	}
}

func TestAPausedContainerRunsNoExecAndGoesOnAfterwards(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	for range 2 { // may be repeated
		_, err := c.client.Pause(contextFor(t), connect.NewRequest(&agentv1.PauseRequest{}))
		must(t, err)
	}
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish()
	if s.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_PAUSED {
		t.Fatal(s.failure)
	}
	for range 2 {
		_, err := c.client.Resume(contextFor(t), connect.NewRequest(&agentv1.ResumeRequest{}))
		must(t, err)
	}
	c.exec("f", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
}
