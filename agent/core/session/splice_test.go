package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// sent is a socket that holds its peer's data.
func sent(t *testing.T, data []byte) (socket int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	t.Cleanup(func() { _ = errors.Join(unix.Close(pair[0]), unix.Close(pair[1])) })
	n, err := unix.Write(pair[1], data)
	must(t, err)
	assert.Assert(t, n == len(data), "the socket has too little room")
	return pair[0]
}

// executing is an exec with standard input.
func executing(t *testing.T) (*session.Session, *fakeProcess) {
	t.Helper()
	c, runtime, main := running(t, session.Options{})
	s := c.Exec(contextFor(t), &agentv1.OpenExec{
		ExecId: "e", Process: &agentv1.ProcessSpec{Args: []string{"x"}}, AttachStdin: true,
	})
	p := <-runtime.execs
	t.Cleanup(func() {
		p.exit(0)
		main.exit(0)
		s.Close()
	})
	return s, p
}

func TestWhatASocketHoldsIsSpliced(t *testing.T) {
	s, p := executing(t)
	data := bytes.Repeat([]byte("0123456789"), 5000)
	moved, able, err := s.SpliceStdin(contextFor(t), sent(t, data))
	must(t, err)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(p.stdin, got); err != nil || moved != len(data) || !able || !bytes.Equal(got, data) {
		t.Fatal(moved, able, err)
	}
}

func TestNothingIsTakenForAProcessThatHasClosedItsStdin(t *testing.T) {
	s, p := executing(t)
	must(t, p.stdin.Close())
	socket := sent(t, make([]byte, 50_000))
	if moved, able, err := s.SpliceStdin(contextFor(t), socket); moved != 0 || able || err != nil {
		t.Fatal(moved, able, err)
	}
	if held, err := unix.IoctlGetInt(socket, unix.SIOCINQ); err != nil || held != 50_000 {
		t.Fatal(held, err)
	}
}

func TestNothingIsSplicedToATerminal(t *testing.T) {
	runtime := newRuntime(t)
	_, runtime.terminal, _ = os.Pipe()
	c := session.New(session.MainProcess{}, session.Options{Runtime: runtime})
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1})
	must(t, err)
	defer (<-runtime.launched).exit(0)
	open := attachAll()
	open.Stdin = true
	s := c.Attach(open)
	defer s.Close()
	if moved, able, err := s.SpliceStdin(contextFor(t), sent(t, []byte("typed"))); moved != 0 || able || err != nil {
		t.Fatal(moved, able, err)
	}
}

func TestAClientWhoLeavesWhileItsInputIsSplicedLeavesNoTraceForTheNext(t *testing.T) {
	c, _, main := running(t, session.Options{})
	defer main.exit(0)
	open := attachAll()
	open.Stdin = true
	first, second := c.Attach(open), c.Attach(open)
	defer second.Close()
	left, cancel := context.WithCancelCause(context.Background())
	blocked := make(chan error)
	must(t, first.WriteStdin(left, make([]byte, 64<<10))) // nobody reads: the pipe is full
	socket := sent(t, make([]byte, 50_000))
	go func() {
		_, _, err := first.SpliceStdin(left, socket)
		blocked <- err
	}()
	time.Sleep(20 * time.Millisecond) // most likely it waits by then
	gone := errors.New("the client left")
	cancel(gone)
	assert.ErrorIs(t, <-blocked, gone)
	first.Close()
	go func() { _, _ = io.Copy(io.Discard, main.stdin) }()
	must(t, second.WriteStdin(contextFor(t), make([]byte, 1<<20)))
}
