package shim_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/agent/shim"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// TestAnExecsSeccompFilterIsTheMainProcesss reads both from the kernel.
func TestAnExecsSeccompFilterIsTheMainProcesss(t *testing.T) {
	_, docker := dockerProfile(t)
	for name, profile := range map[string]map[string]any{"Docker's": docker, "a list of denials": seccomp()} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, func(map[string]any) {}, profile)
			s := c.exec("e", &agentv1.ProcessSpec{Args: sleeper})
			for s.started == nil {
				s.next()
			}
			theirs, err := shim.SeccompFilterOf(c.ready.PID)
			must(t, err)
			own, err := shim.SeccompFilterOf(int(s.started.Pid))
			must(t, err)
			if len(own) == 0 || !bytes.Equal(own, theirs) {
				t.Fatalf("%d bytes of filter, and the main process has %d", len(own), len(theirs))
			}
			s.vanish()
		})
	}
}

// TestAnExecIsRefusedTheSystemCallsThatTheMainProcessIs lets the kernel decide.
func TestAnExecIsRefusedTheSystemCallsThatTheMainProcessIs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the calls are those of x86")
	}
	needRuntime(t)
	program := filepath.Join(busyboxRoot(t), "bin/calls")
	build := exec.Command("go", "build", "-o", program, "./testdata/calls")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Cleanup(func() { os.Remove(program) })
	_, profile := dockerProfile(t)
	profile["defaultErrnoRet"] = 1234
	script := sh("grep -E '^Seccomp' /proc/self/status; calls && echo done")
	c := launch(t, launchOptions{args: append(slices.Clone(script[:2]), script[2]+"; sleep 1000"), config: func(config map[string]any) {
		config["linux"].(map[string]any)["seccomp"] = profile
	}})
	main := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	c.mustRun("a")
	main.until("done")
	s := c.exec("e", &agentv1.ProcessSpec{Args: script}).finish()
	s.expectExit(0)
	wanted, got := main.stdout.String(), s.stdout.String()
	if got != wanted {
		t.Errorf("the main process + and the exec -:\n%s", difference(wanted, got))
	}
	if !strings.Contains(got, "Seccomp:\t2\nSeccomp_filters:\t1\n") || strings.Count(got, ": 1234\n") < 300 {
		t.Errorf("what an exec is refused:\n%s", got)
	}
	main.vanish()
}
