package session_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// checked starts a container with a health check and returns what tells of it.
func checked(t *testing.T, runtime *fakeRuntime, timeout time.Duration) *session.Watcher {
	t.Helper()
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime})
	watcher := c.Watch()
	t.Cleanup(watcher.Close)
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1, HealthCheck: &agentv1.HealthCheck{
		Args: []string{"check"}, IntervalNs: uint64(time.Millisecond), TimeoutNs: uint64(timeout),
	}})
	must(t, err)
	main := <-runtime.launched
	t.Cleanup(func() { main.exit(0) })
	return watcher
}

func nextResult(t *testing.T, watcher *session.Watcher) *agentv1.HealthResult {
	t.Helper()
	ctx := contextFor(t)
	for {
		event, err := watcher.Next(ctx)
		must(t, err)
		if result := event.GetHealth(); result != nil {
			return result
		}
	}
}

func TestAProbesResultIsReported(t *testing.T) {
	runtime := newRuntime(t)
	watcher := checked(t, runtime, time.Minute)
	for code := range 3 {
		probe := <-runtime.execs
		_, err := probe.stdout.WriteString("looked")
		must(t, err)
		probe.exit(code)
		result := nextResult(t, watcher)
		if result.ExitCode != int32(code) || string(result.Output) != "looked" || result.End.AsTime().Before(result.Start.AsTime()) {
			t.Fatal(result)
		}
	}
}

func TestAProbesOutputIsBounded(t *testing.T) {
	runtime := newRuntime(t)
	watcher := checked(t, runtime, time.Minute)
	probe := <-runtime.execs
	_, err := probe.stdout.Write(bytes.Repeat([]byte("x"), 5000))
	must(t, err)
	probe.exit(0)
	if output := string(nextResult(t, watcher).Output); len(output) != 4096 || strings.Trim(output, "x") != "..." {
		t.Fatal(len(output))
	}
}

func TestAProbeThatTakesTooLongIsKilled(t *testing.T) {
	runtime := newRuntime(t)
	watcher := checked(t, runtime, 200*time.Millisecond)
	probe := <-runtime.execs
	_, err := probe.stdout.WriteString("begun")
	must(t, err)
	for killed := false; !killed; time.Sleep(time.Millisecond) {
		probe.mu.Lock()
		killed = len(probe.signals) > 0 && probe.signals[0] == unix.SIGKILL
		probe.mu.Unlock()
	}
	probe.exit(137)
	if result := nextResult(t, watcher); result.ExitCode != -1 || string(result.Output) != "Health check exceeded timeout (200ms): begun" {
		t.Fatal(result)
	}
}

func TestAProbeThatCannotBeStartedSaysWhy(t *testing.T) {
	runtime := newRuntime(t)
	runtime.beforeExec = func() error { return &session.StartError{ExitCode: 127, Message: "check: not found"} }
	watcher := checked(t, runtime, time.Minute)
	if result := nextResult(t, watcher); result.ExitCode != -1 || string(result.Output) != "check: not found" {
		t.Fatal(result)
	}
}

func TestAProbeWhoseStartHangsHoldsUpNoEndOfTheContainer(t *testing.T) {
	runtime := newRuntime(t)
	begun, letGo := make(chan struct{}), make(chan struct{})
	defer close(letGo)
	runtime.beforeExec = func() error {
		close(begun)
		<-letGo
		return session.ErrNotRunning
	}
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime})
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1, HealthCheck: &agentv1.HealthCheck{
		Args: []string{"check"}, IntervalNs: uint64(time.Millisecond),
	}})
	must(t, err)
	main := <-runtime.launched
	<-begun
	main.exit(3)
	must(t, c.WaitEnded(contextFor(t)))
	if code := c.State().GetExit().GetCode(); code != 3 {
		t.Errorf("it has ended with %d", code)
	}
}
