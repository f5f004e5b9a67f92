package containers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/descriptors"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

const (
	shimMarker = "SOCKERLESS_TEST_SHIM"
	// The values of shimMarker: what a shim does before it is ready.
	staysUnready = "stays"
	diesAtWork   = "dies"
	// runtimeMarker holds the arguments of a runtime's command that a dying shim
	// leaves behind.
	runtimeMarker = "SOCKERLESS_TEST_RUNTIME"
)

func beUnready(how string) {
	if err := descriptors.CloseInherited(shimspec.ListenerFD, shimspec.ReadinessFD, shimspec.SpecifiedFD); err != nil {
		panic(err)
	}
	if how == diesAtWork {
		// Alive before we end: its start has returned.
		if _, err := os.StartProcess("/proc/self/exe", runtimeArguments(os.Getenv(runtimeMarker)), &os.ProcAttr{Env: []string{}}); err != nil {
			panic(err)
		}
		os.Exit(1)
	}
	unix.Pause()
}

func runtimeArguments(rootAndID string) []string {
	root, id, _ := strings.Cut(rootAndID, " ")
	return []string{"runc", "--root", root, "create", "--bundle", "/nowhere", id}
}

// launchableContainer returns a launch whose shim does not get ready.
func launchableContainer(t *testing.T, c *Containers, number int) *launch {
	t.Helper()
	id := fmt.Sprintf("%016x%048x", number, os.Getpid()) // no other run's has it in its command line
	assert.NilError(t, c.Create(t.Context(), &hostv1.CreateContainerRequest{ContainerId: id}))
	request := &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, OciSpec: []byte(`{"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"}}`),
		Network: &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_None{None: true}},
	}
	return &launch{Containers: c, request: request, paths: c.layout.Container(id)}
}

// running returns the live processes with the text in their command line.
func running(text string) []string {
	output, _ := exec.Command("pgrep", "--runstates", "RSD", "-f", text).Output()
	return strings.Fields(string(output))
}

func wantNoneRunning(t *testing.T, text string) {
	t.Helper()
	for _, pid := range running(text) {
		t.Errorf("process %s is alive", pid)
		_ = exec.Command("kill", "-KILL", pid).Run()
	}
}

// A shim has no command line at its very first moment, at which it is looked for
// if nobody waits.
func TestAShimIsEndedFromItsFirstMomentOn(t *testing.T) {
	t.Setenv(shimMarker, staysUnready)
	c := newContainers(t)
	left, leave := context.WithCancel(t.Context())
	leave()
	for number := range 150 {
		l := launchableContainer(t, c, number)
		if _, err := l.run(left); err == nil {
			t.Fatal("a launch whose caller has left succeeded")
		}
	}
	wantNoneRunning(t, c.layout.StateDir)
}

func TestTheRuntimesCommandOfAShimThatDiedIsEnded(t *testing.T) {
	c := newContainers(t)
	l := launchableContainer(t, c, 1)
	t.Setenv(shimMarker, diesAtWork)
	t.Setenv(runtimeMarker, c.layout.RuntimeRoot()+" "+l.request.ContainerId)
	if _, err := l.run(t.Context()); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "the shim ended") {
		t.Fatalf("launch: %v", err)
	}
	wantNoneRunning(t, l.request.ContainerId)
}

func TestTheRuntimesCommandOfAnEarlierHostProcessesShimIsEnded(t *testing.T) {
	c := newContainers(t)
	l := launchableContainer(t, c, 1)
	arguments := runtimeArguments(c.layout.RuntimeRoot() + " " + l.request.ContainerId)
	command := &exec.Cmd{Path: "/proc/self/exe", Args: arguments, SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}}
	assert.NilError(t, command.Start())
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	assert.NilError(t, os.Mkdir(l.paths.Run, 0o700))
	for len(running(l.request.ContainerId)) == 0 {
		time.Sleep(time.Millisecond) // until it has its command line
	}
	assert.NilError(t, c.Release(t.Context(), l.request.ContainerId))
	select {
	case <-ended:
	case <-time.After(shimLimit):
		t.Error("it is alive")
	}
}
