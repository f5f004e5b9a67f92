package shim_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestAShimThatNobodyWatchesLeavesByItself(t *testing.T) {
	c := launch(t, launchOptions{args: sh("exit 0")})
	c.mustRun()
	select {
	case <-c.dead:
	case <-time.After(limit):
		t.Fatal("the shim stays")
	}
	_, err := os.Stat(c.spec.ExitRecord)
	assert.NilError(t, err)
	if _, err := c.client.Hello(contextFor(t), connect.NewRequest(&agentv1.HelloRequest{})); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Fatal(err)
	}
}

func TestAReleasedShimNotifiesItsWatchersLast(t *testing.T) {
	c := launch(t, launchOptions{args: sh("exit 0")})
	events := c.watch()
	c.mustRun()
	await(t, events, exitedEvent)
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	var last *agentv1.WatchResponse
	for event := range events {
		if last != nil && event.Sequence <= last.Sequence {
			t.Fatalf("sequence %d after %d", event.Sequence, last.Sequence)
		}
		last = event
	}
	assert.Assert(t, last.GetReleased() != nil, "last event %v", last)
	<-c.dead
}

func TestATermBeforeTheEndWaitsForTheEnd(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
	c.signal("", 15)
	<-c.dead
}

func TestAReleasedShimDrainsItsSessions(t *testing.T) {
	c := launch(t, launchOptions{args: sh("head -c 1000000 /dev/zero; exit 3")})
	events := c.watch()
	s := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	c.mustRun("a")
	// A slow reader does not delay an exit: all output is recorded and queued.
	await(t, events, exitedEvent)
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	s.finish().expectExit(3)
	if s.stdout.Len() != 1_000_000 {
		t.Fatalf("%d bytes came", s.stdout.Len())
	}
	<-c.dead
}

func TestAShimOutlivesWhoStartedIt(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGPIPE, unix.SIGINT} {
		must(t, c.shim.Process.Signal(signal))
	}
	c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
	if session, err := unix.Getsid(c.shim.Process.Pid); err != nil || session != c.shim.Process.Pid {
		t.Fatalf("session %d, %v", session, err)
	}
}

func TestRunningExecsAreInTheExitRecord(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("echo up; sleep 1000")})
	s.until("up\n")
	c.signal("", 9)
	s.finish().expectExit(137)
	eventually(t, "the exit record", func() bool { return fileExists(c.spec.ExitRecord) })
	if state := c.recorded(); len(state.EndedExecs) != 1 || state.EndedExecs[0].Exit.Code != 137 || state.Exit.GetCode() != 137 {
		t.Fatalf("recorded %v", state)
	}
}

func TestOutOfMemoryIsReported(t *testing.T) {
	c := launch(t, launchOptions{args: sh("x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo no"), config: func(config map[string]any) {
		config["linux"].(map[string]any)["resources"] = map[string]any{"memory": map[string]any{"limit": 32 << 20, "swap": 32 << 20}}
	}})
	events := c.watch()
	c.mustRun()
	await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetOom() != nil })
	exit := await(t, events, exitedEvent).GetExited()
	assert.Assert(t, exit.OomKilled, "exit %v", exit)
}

func TestNothingOfTheRuntimesCommandsIsLeft(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
	c.exec("f", &agentv1.ProcessSpec{Args: []string{"nosuch"}}).finish()
	c.exec("g", &agentv1.ProcessSpec{Args: []string{"true"}, Tty: true}).finish().expectExit(0)
	entries, err := os.ReadDir(filepath.Dir(c.spec.AgentSocket))
	must(t, err)
	for _, entry := range entries {
		if entry.Name() != "agent.sock" && entry.Name() != "ready.json" {
			t.Errorf("left: %s", entry.Name())
		}
	}
}
