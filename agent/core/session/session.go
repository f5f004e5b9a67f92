package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Session is one exec or attachment, as one client sees it. Next and Close are
// for one goroutine; WriteStdin, SpliceStdin and CloseStdin for another. Close
// must be called.
type Session struct {
	opening *agentv1.SessionResponse
	queue   *queue

	openReplay func(context.Context) (*log.Reader, error) // nil: done, or nothing is to be replayed
	replay     *log.Reader                                // nil: nothing (left) to replay

	input  *input             // nil: stdin is not attached
	closes func() closePolicy // known once the input is connected

	// owner and execID identify the process whose end watchers are told; end is
	// the sequence to be acknowledged, if any, known once the last message is.
	owner  *Sessions
	execID string
	end    uint64

	left      atomic.Bool // the client has gone
	leave     func()      // removes the session from its sources
	leaveOnce sync.Once
}

// closePolicy defines what closes the process's stdin.
type closePolicy struct {
	// request: the client's CloseStdin. An attachment to a container whose stdin
	// stays open (`docker run -di`, then `attach`) only stops writing.
	request bool
	leave   bool // the client's leaving
}

// Next waits for the next message. Its data is valid until the next call. The
// last message is `exit`, `detached` or `error`; io.EOF follows it.
func (s *Session) Next(ctx context.Context) (*agentv1.SessionResponse, error) {
	if opening := s.opening; opening != nil {
		s.opening = nil
		return opening, nil
	}
	if s.openReplay != nil && !s.left.Load() {
		replay, err := s.openReplay(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.openReplay, s.replay = nil, replay
		if err != nil && !errors.Is(err, log.ErrDisabled) {
			s.queue.finish(failed(agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL, err.Error(), 0))
		}
	}
	for s.replay != nil && !s.left.Load() {
		chunk, err := s.replay.Next(ctx)
		if err == nil {
			return s.queue.output(streamOf(chunk.Stream), chunk.Data), nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var damaged *log.CorruptError
		if errors.As(err, &damaged) {
			continue // what can be read is replayed
		}
		s.replay.Close()
		s.replay = nil
		if !errors.Is(err, io.EOF) {
			s.queue.finish(failed(agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL, err.Error(), 0))
		}
	}
	return s.queue.next(ctx)
}

// WriteStdin writes data to the process, and blocks while that does not read. It
// fails only when ctx is done.
func (s *Session) WriteStdin(ctx context.Context, data []byte) error {
	if s.input == nil {
		return nil
	}
	return s.input.write(ctx, data)
}

// SpliceStdin moves data from a client's connection to the process without
// copying, and blocks while that does not read. It returns the number of bytes,
// and whether it can move more; otherwise use WriteStdin. It fails only when ctx
// is done.
func (s *Session) SpliceStdin(ctx context.Context, connection int) (moved int, able bool, err error) {
	if s.input == nil {
		return 0, false, nil
	}
	return s.input.splice(ctx, connection)
}

// CloseStdin ends this client's input.
func (s *Session) CloseStdin() {
	if s.input != nil {
		s.input.closeIf(func() bool { return s.closes().request })
	}
}

// Leave ends the session of a client that has gone, once its input is delivered.
// Replayed output is dropped.
func (s *Session) Leave() {
	s.left.Store(true)
	s.queue.finish(detached())
}

// Close ends the session: the client has left or has received its last message.
// The process runs on.
func (s *Session) Close() {
	s.leaveOnce.Do(func() {
		s.leave()
		if s.replay != nil {
			s.replay.Close()
			s.replay = nil
		}
		if s.input != nil {
			s.input.closeIf(func() bool { return s.closes().leave })
		}
	})
}

// refused returns a session that failed before it began.
func refused(reason agentv1.SessionErrorReason, message string, exitCode int) *Session {
	s := &Session{queue: newQueue(), leave: func() {}}
	s.queue.finish(failed(reason, message, exitCode))
	return s
}

func failed(reason agentv1.SessionErrorReason, message string, exitCode int) *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Error{Error: &agentv1.SessionError{
		Reason: reason, Message: message, ExitCode: int32(exitCode),
	}}}
}

func started(pid int, tty bool) *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Started{Started: &agentv1.SessionStarted{
		Pid: int64(pid), Tty: tty,
	}}}
}

func exited(status ExitStatus) *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Exit{Exit: status.Proto()}}
}

func detached() *agentv1.SessionResponse {
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Detached{Detached: &agentv1.SessionDetached{}}}
}

func streamOf(s log.Stream) stream {
	if s == log.Stderr {
		return stderr
	}
	return stdout
}
