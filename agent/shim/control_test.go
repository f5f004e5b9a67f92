package shim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

type (
	spec        = shimspec.Spec
	consoleSize = shimspec.ConsoleSize
)

// sleeper waits and ends at the first possible signal.
var sleeper = []string{"/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"}

func openStdin(s *spec) { s.OpenStdin, s.StdinOnce = true, true }

func itoa(n int) string { return fmt.Sprint(n) }

func second[T any](_ T, err error) error { return err }

func exitedEvent(e *agentv1.WatchResponse) bool { return e.GetExited() != nil }

func (c *container) signal(execID string, signal int32) {
	c.t.Helper()
	_, err := c.client.Signal(contextFor(c.t), connect.NewRequest(&agentv1.SignalRequest{ExecId: execID, Signal: signal}))
	must(c.t, err)
}

func (c *container) inspect(execID string) *agentv1.ExecInspectResponse {
	c.t.Helper()
	response, err := c.client.ExecInspect(contextFor(c.t), connect.NewRequest(&agentv1.ExecInspectRequest{ExecId: execID}))
	must(c.t, err)
	return response.Msg
}

// awaitProcess waits for a process with this name in the container.
func (c *container) awaitProcess(name string) {
	c.t.Helper()
	id := 0
	eventually(c.t, name+" runs", func() bool {
		id++
		s := c.exec(fmt.Sprint("await-", name, id), &agentv1.ProcessSpec{Args: []string{"pidof", name}}).finish()
		return s.exit.GetCode() == 0
	})
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		assert.Assert(t, !time.Now().After(deadline), "did not come true: %s", what)
	}
}

// followedLog is `logs -f`.
type followedLog struct {
	t      testing.TB
	chunks chan []byte
	cancel context.CancelFunc
}

func (c *container) follow() *followedLog {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.t.Cleanup(cancel)
	stream, err := c.client.Logs(ctx, connect.NewRequest(&agentv1.LogsRequest{Stdout: true, Stderr: true, Follow: true}))
	must(c.t, err)
	l := &followedLog{t: c.t, chunks: make(chan []byte, 4096), cancel: cancel}
	go func() {
		defer close(l.chunks)
		ended := false
		for stream.Receive() {
			if chunk := stream.Msg().GetChunk(); chunk != nil {
				l.chunks <- bytes.Clone(chunk.Data)
			}
			ended = ended || stream.Msg().GetEnd() != nil
		}
		if !ended && !errors.Is(stream.Err(), context.Canceled) && connect.CodeOf(stream.Err()) != connect.CodeCanceled {
			c.t.Errorf("the log was cut: %v", stream.Err())
		}
	}()
	return l
}

func (l *followedLog) finish() []byte {
	var all []byte
	for chunk := range l.chunks {
		all = append(all, chunk...)
	}
	return all
}

// untilQuiet reads until nothing has come for a while.
func (l *followedLog) untilQuiet() []byte {
	var all []byte
	for {
		select {
		case chunk := <-l.chunks:
			all = append(all, chunk...)
		case <-time.After(500 * time.Millisecond):
			return all
		}
	}
}

func TestSignalsReachTheMainProcess(t *testing.T) {
	c := launch(t, launchOptions{args: sh("trap 'echo got; exit 8' USR1; echo up; while :; do sleep 0.01; done")})
	s := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	c.mustRun("a")
	s.until("up\n")
	c.signal("", 10)
	s.finish().expectExit(8)
	if !strings.HasSuffix(s.stdout.String(), "got\n") {
		t.Fatal(s.stdout.String())
	}
	_, err := c.client.Signal(contextFor(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9}))
	assert.Assert(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, "signal after the end: %v", err)
}

func TestASignalToAllReachesEveryProcess(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("echo up; exec sleep 1000")})
	s.until("up\n")
	_, err := c.client.Signal(contextFor(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9, All: true}))
	must(t, err)
	s.finish().expectExit(137)
}

func TestAStartMayBeRepeatedWithItsGenerationOnly(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	first, again := c.run(), c.run()
	if first.GetStarted().GetPid() == 0 || first.GetStarted().Pid != again.GetStarted().GetPid() {
		t.Fatalf("%v, then %v", first, again)
	}
	_, err := c.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{Generation: 2}))
	assert.Assert(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, err)
}

func TestAnAttachmentThatLeftReleasesTheStart(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	s := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	must(t, second(s.stream.Receive()))
	s.vanish()
	c.mustRun("a")
}

func TestAStartDoesNotWaitForEverForAnAttachment(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	_, err := c.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{
		Generation: 1, AwaitAttachIds: []string{"never"}, AwaitAttachTimeoutMs: 50,
	}))
	must(t, err)
}

func TestAContainerKilledBeforeItsStartIsOver(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	events := c.watch()
	must(t, killPID(c.ready.PID))
	if exit := await(t, events, exitedEvent).GetExited(); exit.Code != 137 {
		t.Fatal(exit)
	}
	assert.Assert(t, c.run().GetFailure() != nil, "a dead container was started")
}

func TestHealthIsProbedOnSchedule(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	events := c.watch()
	_, err := c.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{
		Generation: 1, HealthCheck: &agentv1.HealthCheck{Args: sh("echo fine; exit 1"), IntervalNs: 2e7, TimeoutNs: 5e9},
	}))
	must(t, err)
	for range 6 {
		result := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetHealth() != nil }).GetHealth()
		if result.ExitCode != 1 || string(result.Output) != "fine\n" {
			t.Fatal(result)
		}
	}
	if state := await(t, c.watch(), func(*agentv1.WatchResponse) bool { return true }).GetState(); len(state.Health) != 5 {
		t.Fatalf("%d results kept", len(state.Health))
	}
}

func TestAProbeThatTakesTooLongIsKilled(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	events := c.watch()
	_, err := c.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{
		Generation: 1, HealthCheck: &agentv1.HealthCheck{Args: sh("sleep 1000"), IntervalNs: 1e7, TimeoutNs: 5e7},
	}))
	must(t, err)
	result := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetHealth() != nil }).GetHealth()
	assert.Assert(t, result.ExitCode == -1, result)
}

func TestFilesGoInAndOut(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.exec("e", &agentv1.ProcessSpec{Args: sh("mkdir /dev/d; echo hi > /dev/d/f")}).finish().expectExit(0)
	get, err := c.client.ArchiveGet(contextFor(t), connect.NewRequest(&agentv1.ArchiveGetRequest{Path: "/dev/d"}))
	must(t, err)
	var tarred []byte
	ended := false
	for get.Receive() {
		tarred = append(tarred, get.Msg().GetChunk().GetData()...)
		ended = ended || get.Msg().GetEnd().GetTotalBytes() == uint64(len(tarred)) && len(tarred) > 0
	}
	must(t, get.Err())
	assert.Assert(t, ended, "no end")

	put := c.client.ArchivePut(contextFor(t))
	must(t, put.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: "/dev/pts/.."}}}))
	must(t, c.exec("rm", &agentv1.ProcessSpec{Args: sh("rm -r /dev/d")}).finish().stream.CloseRequest())
	must(t, put.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Chunk{Chunk: &agentv1.ArchiveChunk{Data: tarred}}}))
	must(t, put.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_End{End: &agentv1.ArchiveEnd{TotalBytes: uint64(len(tarred))}}}))
	_, err = put.CloseAndReceive()
	must(t, err)
	s := c.exec("cat", &agentv1.ProcessSpec{Args: []string{"cat", "/dev/d/f"}}).finish()
	if s.stdout.String() != "hi\n" {
		t.Fatal(s.stdout.String(), s.stderr.String())
	}

	cut := c.client.ArchivePut(contextFor(t))
	must(t, cut.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: "/dev"}}}))
	must(t, cut.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Chunk{Chunk: &agentv1.ArchiveChunk{Data: tarred}}}))
	if _, err = cut.CloseAndReceive(); connect.CodeOf(err) != connect.CodeDataLoss {
		t.Fatalf("a stream without its end: %v", err)
	}

	_, err = c.client.ArchiveStat(contextFor(t), connect.NewRequest(&agentv1.ArchiveStatRequest{Path: "/nosuch"}))
	assert.Assert(t, connect.CodeOf(err) == connect.CodeNotFound, err)
}

// A dying process shows no root before it can be waited for. A traced process
// keeps its container's first one in that state until its tracer releases it.
func TestTheFilesOfAContainerThatIsDyingAreAskedForElsewhere(t *testing.T) {
	c := launch(t, launchOptions{args: sh("sleep 1000 & wait")})
	c.mustRun()
	letGo := traceChild(t, c.ready.PID)
	must(t, killPID(c.ready.PID))
	for {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/root", c.ready.PID)); errors.Is(err, os.ErrNotExist) {
			break
		}
		must(t, contextFor(t).Err())
	}
	_, err := c.client.ArchiveStat(contextFor(t), connect.NewRequest(&agentv1.ArchiveStatRequest{Path: "/etc"}))
	assert.Check(t, connect.CodeOf(err) == connect.CodeUnavailable, "files of a dying container: %v", err)
	letGo()
}

// traceChild traces the only child of a process, once it has one, until letGo.
func traceChild(t *testing.T, parent int) (letGo func()) {
	t.Helper()
	attached, leave, left := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		runtime.LockOSThread() // tracing is a thread's
		var child int
		for child == 0 && contextFor(t).Err() == nil {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
			_, _ = fmt.Sscan(string(children), &child)
		}
		attached <- unix.PtraceSeize(child)
		<-leave
		_, _ = unix.Wait4(child, nil, unix.WALL, nil)
	}()
	must(t, <-attached)
	return func() { close(leave); <-left }
}

func killPID(pid int) error { return unix.Kill(pid, unix.SIGKILL) }
