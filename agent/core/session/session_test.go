package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func write(t testing.TB, p *fakeProcess, data []byte) {
	t.Helper()
	_, err := p.stdout.Write(data)
	must(t, err)
}

func TestSmallWritesTravelTogether(t *testing.T) {
	c, _, main := running(t, session.Options{Log: memoryLog(t)})
	s := c.Attach(attachAll())
	defer s.Close()
	for range 10_000 {
		write(t, main, []byte("0123456789"))
	}
	main.exit(0)
	must(t, c.WaitEnded(contextFor(t)))
	all := collect(t, s)
	if len(all.stdout) != 100_000 || all.messages > 10 {
		t.Fatalf("%d bytes in %d messages", len(all.stdout), all.messages)
	}
}

func TestAProcessWaitsForItsSlowestReaderAndForNoneThatLeft(t *testing.T) {
	c, _, main := running(t, session.Options{})
	slow, other := c.Attach(attachAll()), c.Attach(attachAll())
	defer other.Close()
	const total = 8 << 20
	written := make(chan struct{})
	go func() {
		defer close(written)
		write(t, main, make([]byte, total))
		main.exit(0)
	}()
	got := make(chan int)
	go func() { got <- len(collect(t, other).stdout) }()
	select {
	case <-written:
		t.Fatal("nobody waited for the slow reader")
	case <-time.After(300 * time.Millisecond):
	}
	slow.Close()
	if n := <-got; n != total {
		t.Fatalf("%d bytes came", n)
	}
}

func TestAClientThatHasGoneIsReplayedNoLog(t *testing.T) {
	c, _, main := running(t, session.Options{Log: memoryLog(t)})
	live := c.Attach(attachAll())
	defer live.Close()
	write(t, main, []byte("recorded"))
	for recorded := false; !recorded; {
		response, err := live.Next(contextFor(t))
		must(t, err)
		recorded = response.GetStdout() != nil
	}
	open := attachAll()
	open.ReplayLog = true
	s := c.Attach(open)
	defer s.Close()
	s.Leave()
	all := collect(t, s)
	if len(all.stdout) != 0 || all.last.GetDetached() == nil {
		t.Fatalf("%q, %v", all.stdout, all.last)
	}
}

func TestASignalIsSentOnceForAToken(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	for _, token := range []string{"", "", "one", "two", "one", "two"} {
		must(t, c.Signal(contextFor(t), &agentv1.SignalRequest{Signal: 15, ClientToken: token}))
	}
	if len(main.signals) != 4 {
		t.Fatalf("%d signals", len(main.signals))
	}
}

func TestTokensOfTheLastSignalsAreKnown(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	send := func(n int) {
		must(t, c.Signal(contextFor(t), &agentv1.SignalRequest{Signal: 15, ClientToken: fmt.Sprint(n)}))
	}
	for n := range 1000 {
		send(n)
		send(n)
		send(max(0, n-100))
	}
	if len(main.signals) != 1000 {
		t.Fatalf("%d signals", len(main.signals))
	}
	send(1)
	assert.Assert(t, is.Len(main.signals, 1001), "all tokens are kept")
}

func TestASignalThatFailedIsSentWhenItIsRepeated(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	main.refusal = unix.EAGAIN
	request := &agentv1.SignalRequest{Signal: 15, ClientToken: "one"}
	if err := c.Signal(contextFor(t), request); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("the first call was answered with %v", err)
	}
	must(t, c.Signal(contextFor(t), request))
	must(t, c.Signal(contextFor(t), request))
	if len(main.signals) != 1 {
		t.Fatalf("%d signals", len(main.signals))
	}
}

func TestASignalIsForTheRunThatItNames(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	for _, generation := range []uint64{0, 1} {
		must(t, c.Signal(contextFor(t), &agentv1.SignalRequest{Signal: 15, Generation: generation}))
	}
	late := &agentv1.SignalRequest{Signal: 9, Generation: 2}
	if err := c.Signal(contextFor(t), late); !errors.Is(err, session.ErrNotRunning) {
		t.Fatalf("a signal to another run was answered with %v", err)
	}
	if len(main.signals) != 2 {
		t.Fatalf("%d signals", len(main.signals))
	}
}

func TestAnExitWaitsForNoReader(t *testing.T) {
	c, _, main := running(t, session.Options{Log: memoryLog(t)})
	stuck := c.Attach(attachAll())
	defer stuck.Close()
	// More than is queued for a reader, less than the queue and the pipe hold
	// together.
	data := bytes.Repeat([]byte("x"), 1<<20+100<<10)
	go func() {
		write(t, main, data)
		main.exit(4)
	}()
	must(t, c.WaitEnded(contextFor(t)))
	if all := collect(t, stuck); !bytes.Equal(all.stdout, data) || all.last.GetExit().GetCode() != 4 {
		t.Fatalf("%d bytes, then %v", len(all.stdout), all.last)
	}
}

func TestABackgroundProcessDelaysTheExitOnlyForAWhile(t *testing.T) {
	c, runtime, main := running(t, session.Options{})
	defer main.exit(0)
	open := &agentv1.OpenExec{ExecId: "e", Process: &agentv1.ProcessSpec{Args: []string{"x"}}, AttachStdout: true}
	s := c.Exec(contextFor(t), open)
	defer s.Close()
	exec := <-runtime.execs
	write(t, exec, []byte("mine"))
	exec.die(0)
	write(t, exec, []byte(" and the child's"))
	began := time.Now()
	all := collect(t, s)
	if string(all.stdout) != "mine and the child's" || all.last.GetExit() == nil {
		t.Fatalf("%q, then %v", all.stdout, all.last)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("the exit came after %v", took)
	}
	// The child is not killed by its next write.
	write(t, exec, make([]byte, 1<<20))
	exec.stdout.Close()
}

func TestTheStateIsSavedBeforeItIsReported(t *testing.T) {
	var kept *agentv1.ContainerState
	var c *session.Sessions
	c, _, main := running(t, session.Options{Persist: func(state *agentv1.ContainerState) error {
		kept = state
		return nil
	}})
	w := c.Watch()
	defer w.Close()
	main.exit(3)
	for last := uint64(0); ; {
		event, err := w.Next(contextFor(t))
		must(t, err)
		if event.Sequence <= last {
			t.Fatalf("sequence %d after %d", event.Sequence, last)
		}
		last = event.Sequence
		if event.GetExited() != nil {
			break
		}
	}
	assert.Assert(t, kept.GetExit().GetCode() == 3, "kept %v", kept)
}

func TestAStartThatFailsIsAnswerStateAndSessionsEnd(t *testing.T) {
	runtime := newRuntime(t)
	runtime.refusal = &session.StartError{ExitCode: 127, Message: "not found"}
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime, Log: memoryLog(t)})
	s := c.Attach(attachAll())
	defer s.Close()
	for range 2 {
		response, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1})
		must(t, err)
		assert.Assert(t, response.GetFailure().GetExitCode() == 127, response)
	}
	if all := collect(t, s); all.last.GetError().GetExitCode() != 127 {
		t.Fatal(all.last)
	}
	if c.State().Failure.GetMessage() != "not found" {
		t.Fatal(c.State())
	}
}

func TestALaterGenerationStartsWhereThatIsAllowed(t *testing.T) {
	for _, restartable := range []bool{false, true} {
		c, runtime, main := running(t, session.Options{Restartable: restartable, Log: memoryLog(t)})
		main.exit(0)
		must(t, c.WaitEnded(contextFor(t)))
		var early *session.Session
		if restartable {
			open := attachAll()
			open.AttachId = "a"
			early = c.Attach(open)
		}
		_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 2, AwaitAttachIds: []string{"a"}, AwaitAttachTimeoutMs: 1})
		if !restartable {
			assert.Assert(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, err)
			continue
		}
		must(t, err)
		second := <-runtime.launched
		write(t, second, []byte("again"))
		second.exit(5)
		if all := collect(t, early); string(all.stdout) != "again" || all.last.GetExit().GetCode() != 5 {
			t.Fatalf("%q, then %v", all.stdout, all.last)
		}
		early.Close()
		_, err = c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1})
		assert.Assert(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, err)
	}
}

// waitingAlone starts a container whose attachment and caller do not come, and waits
// until their time is over.
func waitingAlone(t *testing.T) (*session.Sessions, *fakeRuntime, *agentv1.StartRequest) {
	t.Helper()
	said := make(chan string, 8)
	runtime := newRuntime(t)
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime, Logger: slog.New(sayer(said))})
	request := &agentv1.StartRequest{Generation: 1, AwaitAttachIds: []string{"a"}, AwaitAttachTimeoutMs: 1}
	gone, leave := context.WithCancel(context.Background())
	leave()
	for _, ctx := range []context.Context{gone, session.Outliving(gone)} {
		go func() { _, _ = c.Start(ctx, request) }()
	}
	if line := <-said; !strings.HasPrefix(line, "neither an attachment nor a caller") {
		t.Fatal(line)
	}
	return c, runtime, request
}

// sayer is a log handler that passes messages on.
type sayer chan<- string

func (s sayer) Enabled(context.Context, slog.Level) bool { return true }
func (s sayer) Handle(_ context.Context, record slog.Record) error {
	s <- record.Message
	return nil
}
func (s sayer) WithAttrs([]slog.Attr) slog.Handler { return s }
func (s sayer) WithGroup(string) slog.Handler      { return s }

func TestAStartThatNobodyWaitsForIsWithdrawnWithoutRunning(t *testing.T) {
	c, runtime, request := waitingAlone(t)
	assert.Assert(t, c.WithdrawStart(1, &session.StartError{ExitCode: 128, Message: "withdrawn"}), "it was not withdrawn")
	response, err := c.Start(contextFor(t), request)
	must(t, err)
	if response.GetFailure().GetMessage() != "withdrawn" || len(runtime.launched) > 0 {
		t.Fatal(response)
	}
}

func TestAStartThatNobodyWaitsForIsMadeOnceACallerIsThere(t *testing.T) {
	c, runtime, request := waitingAlone(t)
	response, err := c.Start(contextFor(t), request)
	must(t, err)
	assert.Assert(t, response.GetStarted() != nil, response)
	(<-runtime.launched).exit(0)
}

func TestAStartThatNobodyWaitsForIsMadeOnceItsAttachmentIsThere(t *testing.T) {
	c, runtime, _ := waitingAlone(t)
	open := attachAll()
	open.AttachId = "a"
	attached := c.Attach(open)
	process := <-runtime.launched
	refusesAnother := func() {
		again := collect(t, c.Attach(open))
		if reason := again.last.GetError().GetReason(); reason != agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL {
			t.Fatal(again.last)
		}
	}
	refusesAnother()
	process.exit(3)
	must(t, c.WaitEnded(contextFor(t)))
	refusesAnother()
	if all := collect(t, attached); all.last.GetExit().GetCode() != 3 {
		t.Fatal(all.last)
	}
}

func TestAnAttachmentThatComesAfterTheStartIsRefused(t *testing.T) {
	c, runtime, request := waitingAlone(t)
	_, err := c.Start(contextFor(t), request)
	must(t, err)
	late := attachAll()
	late.AttachId = "a"
	refused := func() {
		t.Helper()
		if reason := collect(t, c.Attach(late)).last.GetError().GetReason(); reason != agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL {
			t.Fatal(reason)
		}
	}
	refused()
	(<-runtime.launched).exit(42)
	must(t, c.WaitEnded(contextFor(t)))
	refused()
}

// A watcher of a run's end may request the next run while that already runs.
func TestARunThatGoesOnIsNotTheLast(t *testing.T) {
	c, runtime, first := running(t, session.Options{Restartable: true, Log: memoryLog(t)})
	first.exit(0)
	must(t, c.WaitEnded(contextFor(t)))
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 2})
	must(t, err)
	second := <-runtime.launched
	if c.EndAfter(1) || c.EndAfter(2) {
		t.Fatal("the second one runs")
	}
	second.exit(0)
	must(t, c.WaitEnded(contextFor(t)))
	assert.Assert(t, c.EndAfter(2), "none has started since")
	if _, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 3}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatal(err)
	}
}

func TestAnAbandonedAttachLeavesTheRunThatIsOver(t *testing.T) {
	c, runtime, main := running(t, session.Options{Restartable: true, Log: memoryLog(t)})
	main.exit(3)
	must(t, c.WaitEnded(contextFor(t)))
	open := attachAll()
	open.AttachId = "left"
	c.Attach(open).Close()
	if state := c.State(); state.Exit.GetCode() != 3 || state.Started == nil {
		t.Fatalf("the state is %v", state)
	}
	open.AttachId = "stays"
	stays := c.Attach(open)
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 2, AwaitAttachIds: []string{"left", "stays"}})
	must(t, err)
	second := <-runtime.launched
	if state := c.State(); state.Exit != nil {
		t.Fatalf("the state is %v", state)
	}
	second.exit(5)
	if all := collect(t, stays); all.last.GetExit().GetCode() != 5 {
		t.Fatal(all.last)
	}
	open.AttachId = "late"
	late := c.Attach(open)
	c.RefuseNext(&session.StartError{ExitCode: 128, Message: "leaving"})
	if all := collect(t, late); all.last.GetError().GetMessage() != "leaving" {
		t.Fatal(all.last)
	}
}

func TestAnExecThatIsRefusedIsNotOpenedLater(t *testing.T) {
	c, runtime, main := running(t, session.Options{})
	defer main.exit(0)
	open := func(id string) *session.Session {
		return c.Exec(contextFor(t), &agentv1.OpenExec{ExecId: id, Process: &agentv1.ProcessSpec{Args: []string{"x"}}})
	}
	if _, err := c.ExecInspect("late", false); connect.CodeOf(err) != connect.CodeNotFound {
		t.Fatal(err)
	}
	refused, err := c.ExecInspect("late", true)
	must(t, err)
	if refused.Running || refused.Exit.GetCode() != 255 {
		t.Fatal(refused)
	}
	if all := collect(t, open("late")); all.last.GetError().GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_EXISTS {
		t.Fatal(all.last)
	}
	assert.Assert(t, is.Len(runtime.execs, 0), "it runs")
	inTime := open("in time")
	exec := <-runtime.execs
	known, err := c.ExecInspect("in time", true)
	must(t, err)
	assert.Assert(t, known.Running, known)
	exec.exit(4)
	if all := collect(t, inTime); all.last.GetExit().GetCode() != 4 {
		t.Fatal(all.last)
	}
}

func TestAWriterWhoLeavesLeavesNoTraceForTheNext(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	open := attachAll()
	open.Stdin = true
	first, second := c.Attach(open), c.Attach(open)
	defer second.Close()
	left, cancel := context.WithCancelCause(context.Background())
	blocked := make(chan error)
	go func() { blocked <- first.WriteStdin(left, make([]byte, 1<<20)) }() // nobody reads
	gone := errors.New("the client left")
	cancel(gone)
	assert.ErrorIs(t, <-blocked, gone)
	first.Close()
	// The part that the first one wrote is read, then the second's comes whole.
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			if _, err := main.stdin.Read(buffer); err != nil {
				return
			}
		}
	}()
	must(t, second.WriteStdin(contextFor(t), make([]byte, 1<<20)))
}

func TestAWatcherThatFallsBehindIsCut(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	w := c.Watch()
	defer w.Close()
	for range 5000 {
		c.OutOfMemory()
	}
	if _, err := w.Next(contextFor(t)); err == nil {
		t.Fatal("a watcher with a gap goes on")
	}
	again := c.Watch()
	defer again.Close()
	if event, err := again.Next(contextFor(t)); err != nil || !event.GetState().GetOutOfMemory() {
		t.Fatal("the state does not tell what was missed:", event, err)
	}
}

func TestOnlySoManyExecRecordsAreKept(t *testing.T) {
	c, runtime, main := running(t, session.Options{})
	defer main.exit(0)
	for i := range 1100 {
		s := c.Exec(contextFor(t), &agentv1.OpenExec{ExecId: string(rune('a'+i/256)) + string(rune(i)), Process: &agentv1.ProcessSpec{Args: []string{"x"}}})
		(<-runtime.execs).exit(0)
		collect(t, s)
		s.Close()
	}
	if kept := len(c.State().EndedExecs); kept != 1024 {
		t.Fatalf("%d records", kept)
	}
}

func TestAnExecThatMeetsTheContainersEndIsNotRunning(t *testing.T) {
	c, runtime, main := running(t, session.Options{})
	runtime.beforeExec = func() error {
		main.exit(0)
		return errors.New("no such process")
	}
	s := c.Exec(contextFor(t), &agentv1.OpenExec{ExecId: "e", Process: &agentv1.ProcessSpec{Args: []string{"x"}}})
	defer s.Close()
	if all := collect(t, s); all.last.GetError().GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING {
		t.Fatal(all.last)
	}
	must(t, c.WaitEnded(contextFor(t)))
	if state := c.State(); len(state.EndedExecs)+len(state.RunningExecs) != 0 {
		t.Fatal(state)
	}
}

func TestTheTerminalOfAProcessThatHasEndedIsNotSized(t *testing.T) {
	runtime := newRuntime(t)
	_, runtime.terminal, _ = os.Pipe()
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime})
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1})
	must(t, err)
	defer (<-runtime.launched).exit(0)
	_ = runtime.terminal.Close() // as at the process's end, before that is known; the pump may have closed it
	err = c.Resize(&agentv1.ResizeRequest{Size: &agentv1.ConsoleSize{Height: 24, Width: 80}})
	assert.ErrorIs(t, err, session.ErrNotRunning)
}
