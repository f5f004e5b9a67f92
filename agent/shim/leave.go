package shim

import (
	"context"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/core/session"
)

const (
	// unwatchedLinger is how long a shim without watchers stays after its
	// container's end: a backend that restarts finds the exit record.
	unwatchedLinger = 5 * time.Second
	// watchedLinger is the same with watchers, which by contract have the
	// container released sooner.
	watchedLinger = time.Minute
	// cutLimit bounds the wait for the end of cut calls.
	cutLimit = time.Second
	// watchDrain bounds the wait for watchers to receive `released`.
	watchDrain = time.Second
	// shutdownLimit bounds the shutdown of connections that clients keep open:
	// everything has been sent by then.
	shutdownLimit = 100 * time.Millisecond
)

// keptLimit is how long a step's sandbox waits for the next step; a variable for
// tests.
var keptLimit = 5 * time.Minute

// releaseDrain bounds how long a released shim waits for calls that need the
// container, such as uploads to it, and for clients with pending offers; a variable
// for tests.
var releaseDrain = 10 * time.Second

// wait returns when the shim may leave: the main process has ended, no call is
// pending, and the host process has asked it to (terminated) or nobody needs it
// any more.
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
		// A launch stays adoptable until it is started, even if it failed: its
		// Start must still be answered.
		_ = s.sessions.WaitAnswered(background)
		_ = s.gate.WaitIdle(background)
		// Until the exit is recorded, only this process knows it.
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

// waitForLast returns when the last generation's main process has ended.
// terminated: the host process asked the shim to leave.
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

// awaitNext waits, for at most keptLimit, until a later generation is started or
// the host process sends SIGTERM.
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

// leave releases the container, ends the watches, and stays until open sessions
// and log readers have received everything. terminated: the host process has
// already asked for the release.
func (s *shim) leave(terminated bool) {
	s.gate.Close()
	// The container's exit is recorded by now, or nobody is left to record it.
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
	// Its readers keep their descriptors.
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
