package shim

import (
	"context"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/core/session"
)

const (
	// unwatchedLinger is how long a shim whose container has ended stays when
	// nobody watches: a backend that restarts finds the exit record.
	unwatchedLinger = 5 * time.Second
	// watchedLinger is how long it stays for a watcher, which by the contract
	// has the container released sooner.
	watchedLinger = time.Minute
	// cutLimit bounds the end of calls that are cut.
	cutLimit = time.Second
	// watchDrain bounds how long the watchers have to take `released`.
	watchDrain = time.Second
	// shutdownLimit bounds the farewell to connections that clients keep open:
	// everything was sent by then.
	shutdownLimit = 100 * time.Millisecond
)

// keptLimit is how long what a step has left waits for the next one; a variable,
// so that tests need not wait as long.
var keptLimit = 5 * time.Minute

// releaseDrain bounds how long a released shim waits for calls that need the
// container, as archives of its files do, and for clients that were offered
// something; a variable, so that tests need not wait as long.
var releaseDrain = 10 * time.Second

// wait returns when the shim may leave: the main process has ended, no call is
// under way, and the host process says so (terminated) or nobody needs it any more.
func (s *shim) wait() (terminated bool) {
	background := context.Background()
	terminated = s.waitForLast(background)
	s.ports.Close()
	s.sockets.close()
	s.resolver.close()
	if terminated {
		return true
	}
	memory.GiveBackSoon()

	idle := make(chan struct{})
	go func() {
		defer close(idle)
		// A launch that nobody has started yet stays adoptable, also when it
		// failed: its Start is still to be answered.
		_ = s.sessions.WaitAnswered(background)
		_ = s.gate.WaitIdle(background)
		// Until its end is on record, this process alone knows of it.
		_ = s.sessions.WaitKept(background)
	}()
	linger := unwatchedLinger
	if s.sessions.Watchers() > 0 {
		linger = watchedLinger
	}
	select {
	case <-s.terminate:
		return true
	case <-idle:
		select {
		case <-s.terminate:
			return true
		case <-time.After(linger):
			return false
		}
	}
}

// waitForLast returns when the main process has ended after which no other is
// started. terminated: the host process says so.
func (s *shim) waitForLast(ctx context.Context) (terminated bool) {
	for {
		_ = s.sessions.WaitEnded(ctx) // only ctx can fail it
		ended := s.container.current.Load().spec.Generation
		if s.container.sandbox != nil && !terminated {
			terminated = s.awaitNext(ctx, ended)
		}
		if s.sessions.EndAfter(ended) {
			break
		}
	}
	if s.container.sandbox != nil {
		s.container.sandbox.close()
	}
	return terminated
}

// awaitNext waits, bounded, until a generation after this one is started, or the
// host process says that none will be.
func (s *shim) awaitNext(ctx context.Context, ended uint64) (terminated bool) {
	memory.GiveBackSoon()
	ctx, cancel := context.WithTimeout(ctx, keptLimit)
	defer cancel()
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		_ = s.sessions.WaitNext(ctx, ended)
	}()
	select {
	case <-s.terminate:
		return true
	case <-begun:
		return false
	}
}

// leave lets go of the container, ends the watches, and stays until open sessions
// and readers of the log have got everything. terminated: the host process has said
// that it releases the container.
func (s *shim) leave(terminated bool) {
	s.gate.Close()
	// The container's end is recorded by now, or nobody is there to record it.
	s.sessions.AcknowledgeAll()
	s.sessions.RefuseNext(&session.StartError{ExitCode: 128, Message: "the container is being released"})
	s.handOvers.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), releaseDrain)
	defer cancel()
	released := s.gate.WaitReleased(ctx)
	_ = s.handOvers.WaitTaken(ctx)
	s.handOvers.Close()
	if released != nil {
		s.logger.Warn("calls that need the container are cut")
		s.gate.CutCalls()
		ctx, cancelCut := context.WithTimeout(context.Background(), cutLimit)
		defer cancelCut()
		released = s.gate.WaitReleased(ctx)
	}
	s.sessions.Release()
	ctx, cancelWatches := context.WithTimeout(context.Background(), watchDrain)
	defer cancelWatches()
	_ = s.gate.WaitUnwatched(ctx) // a watcher that does not read is cut
	// Its readers keep its files.
	if err := s.log.Close(); err != nil {
		s.logger.Error("output is not recorded", "error", err)
	}
	s.records.wait()
	if released != nil {
		s.logger.Warn("all clients are cut: a call does not let go of the container")
	} else {
		s.linger(terminated)
	}
	ctx, cancelShutdown := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancelShutdown()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}
