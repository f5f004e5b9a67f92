package reaper_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/reaper"
)

// The test binary is the init when it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "docker-init" {
		os.Exit(reaper.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// initCommand runs the init as PID 1 of a PID namespace.
func initCommand(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	command := exec.Command("/proc/self/exe")
	command.Args = append([]string{"/sbin/docker-init", "--"}, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	command.Stderr = os.Stderr
	return command
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := err.(*exec.ExitError)
	assert.Assert(t, ok, err)
	return exit.ExitCode()
}

func TestTheExitCodeIsTheCommands(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(notExecutable, []byte("x"), 0o644))
	cases := []struct {
		arguments []string
		code      int
	}{
		{[]string{"sh", "-c", "exit 0"}, 0},
		{[]string{"sh", "-c", "exit 42"}, 42},
		{[]string{"sh", "-c", "kill -9 $$"}, 137},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"/nosuch"}, 127},
		{[]string{"nosuch"}, 127},
		{[]string{notExecutable}, 126},
	}
	for _, test := range cases {
		if code := exitCode(t, initCommand(t, test.arguments...).Run()); code != test.code {
			t.Errorf("%v: exit code %d, expected %d", test.arguments, code, test.code)
		}
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGWINCH} {
		command := initCommand(t, "sh", "-c", `for s in TERM INT USR1 HUP WINCH; do trap "echo $s; exit 5" $s; done; echo up; while :; do sleep 0.01; done`)
		output, err := command.StdoutPipe()
		assert.NilError(t, err)
		assert.NilError(t, command.Start())
		lines := bufio.NewReader(output)
		if line, err := lines.ReadString('\n'); line != "up\n" {
			t.Fatal(line, err)
		}
		assert.NilError(t, command.Process.Signal(signal))
		rest, err := io.ReadAll(lines)
		if err != nil || len(bytes.TrimSpace(rest)) == 0 {
			t.Errorf("%v did not arrive: %q %v", signal, rest, err)
		}
		if code := exitCode(t, command.Wait()); code != 5 {
			t.Errorf("%v: exit code %d", signal, code)
		}
	}
}

func TestOrphansAreReaped(t *testing.T) {
	// The orphan's parent is gone when it ends; its reaping is seen when it
	// leaves /proc, which a zombie does not.
	script := `
		orphan=$(sh -c 'sleep 0.05 >/dev/null & echo $!')
		while kill -0 $orphan 2>/dev/null; do sleep 0.01; done
		echo reaped`
	command := initCommand(t, "sh", "-c", script)
	output, err := command.Output()
	if err != nil || strings.TrimSpace(string(output)) != "reaped" {
		t.Fatalf("%q %v", output, err)
	}
}
