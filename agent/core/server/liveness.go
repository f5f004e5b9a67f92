package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Variables for tests.
var (
	// heartbeatEvery is the longest time without a message.
	heartbeatEvery = 10 * time.Second
	// silenceLimit is how long a receiver waits before it treats a stream as cut.
	silenceLimit = 30 * time.Second
)

// errSilent ends a stream whose peer sends neither data nor heartbeats.
var errSilent = errors.New("the peer has been silent for too long: the stream is cut")

// TolerateOutages makes every stream bear a peer's silence for limit longer,
// because its transport may recover after an outage of that length. Call it
// before serving.
func TolerateOutages(limit time.Duration) { silenceLimit += limit }

// sender sends a stream's messages, and heartbeats between them.
type sender[M any] struct {
	send      func(*M) error
	heartbeat func() *M

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// newSender starts the heartbeats; stop must be called.
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
	if s.send(s.heartbeat()) == nil { // an error shows at the next message or at the call's end
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

// stop ends the heartbeats. After it returns nothing is being sent.
func (s *sender[M]) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.timer.Stop()
}

// receiveAlive calls receive, and cancel if that waits longer than silenceLimit.
// A receiver busy with earlier data is not timed.
func receiveAlive[M any](cancel context.CancelCauseFunc, receive func() (M, error)) (M, error) {
	defer whileAlive(cancel)()
	return receive()
}

// whileAlive calls cancel unless it is stopped within silenceLimit.
func whileAlive(cancel context.CancelCauseFunc) (stop func() bool) {
	return time.AfterFunc(silenceLimit, func() { cancel(errSilent) }).Stop
}

// firstMessage receives the message that opens a stream.
func firstMessage[M any](ctx context.Context, cancel context.CancelCauseFunc, receive func() (*M, error)) (*M, error) {
	type received struct {
		message *M
		err     error
	}
	first := make(chan received, 1)
	go func() {
		message, err := receiveAlive(cancel, receive)
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
