package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Variables, so that tests need not wait as long.
var (
	// heartbeatEvery is how long a side may send nothing.
	heartbeatEvery = 10 * time.Second
	// silenceLimit is how long a receiver waits before it takes a stream as cut.
	silenceLimit = 30 * time.Second
)

// errSilent ends a stream whose peer sends neither data nor heartbeats.
var errSilent = errors.New("the peer has been silent for too long: the stream is cut")

// BearCuts has every stream stay when its peer is silent for that much longer,
// because what carries it may be cut for as long and go on. It is called before
// anything is served.
func BearCuts(limit time.Duration) { silenceLimit += limit }

// sender sends the messages of one stream and, when there are none, heartbeats.
type sender[M any] struct {
	send      func(*M) error
	heartbeat func() *M

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// newSender begins to send heartbeats; stop must be called.
func newSender[M any](send func(*M) error, heartbeat func() *M) *sender[M] {
	s := &sender[M]{send: send, heartbeat: heartbeat}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(heartbeatEvery, s.beat)
	return s
}

// Send sends one message.
func (s *sender[M]) Send(message *M) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Reset(heartbeatEvery)
	return s.send(message)
}

func (s *sender[M]) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if s.send(s.heartbeat()) == nil { // an error shows at the next message or as the call's end
		s.timer.Reset(heartbeatEvery)
	}
}

// finish sends the last message: nothing follows it.
func (s *sender[M]) finish(message *M) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.send(message)
}

// stop ends the heartbeats. When it returns, nothing is being sent.
func (s *sender[M]) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.timer.Stop()
}

// hearing calls receive, and cancel if it waits longer than silenceLimit. A
// receiver that is busy with what it has got hears nothing and is not timed.
func hearing[M any](cancel context.CancelCauseFunc, receive func() (M, error)) (M, error) {
	timer := time.AfterFunc(silenceLimit, func() { cancel(errSilent) })
	defer timer.Stop()
	return receive()
}

// firstMessage takes the message that opens a stream.
func firstMessage[M any](ctx context.Context, cancel context.CancelCauseFunc, receive func() (*M, error)) (*M, error) {
	type received struct {
		message *M
		err     error
	}
	first := make(chan received, 1)
	go func() {
		message, err := hearing(cancel, receive)
		first <- received{message, err}
	}()
	select {
	case got := <-first:
		if errors.Is(got.err, io.EOF) {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("the stream was not opened"))
		}
		return got.message, got.err
	case <-ctx.Done():
		return nil, wireError(context.Cause(ctx))
	}
}
