package shim

import (
	"context"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// lingerLimit bounds how long a shim stays whose container is released, however its
// clients read: each has until then taken something in every slowLimit, and what
// there is to take does not grow any more.
const lingerLimit = 24 * time.Hour

// slowLimit is how long a client may take nothing of what is left for it; a
// variable, so that tests need not wait as long. It fits the largest step in which
// one is seen to read: of a call HTTP/2's window opens by a MiB, of a connection that
// was handed on the kernel tells of 64 KiB.
var slowLimit = 10 * time.Minute

// linger goes on giving slow clients their output, as dockerd does after a removal.
// Nothing of the container is needed for it: the log is read from descriptors, and
// sessions have the rest of theirs in memory. From its beginning on nobody can
// connect, by which the host process knows that. Each client is cut by itself once
// it takes nothing. terminated: the host process has said already that it releases
// the container, perhaps more than once; told again from now on, as by who wants it
// gone, the shim cuts all of them.
func (s *shim) linger(terminated bool) {
	soon, cancelSoon := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancelSoon()
	if s.gate.WaitIdle(soon) == nil {
		return
	}
	memory.GiveBackSoon()
	ctx, cancel := context.WithTimeout(context.Background(), lingerLimit)
	defer cancel()
	select {
	case <-s.terminate:
		terminated = true
	default:
	}
	s.listening.Close()
	go func() { _ = s.http.Shutdown(ctx) }() // which lets calls end
	idle := make(chan error, 1)
	go func() { idle <- s.gate.WaitIdle(ctx) }()
	look := time.NewTicker(slowLimit / 60)
	defer look.Stop()
	for {
		select {
		case err := <-idle:
			if err != nil {
				s.logger.Warn("all clients are cut, which have not read in a day what there was")
			}
			return
		case <-s.terminate:
			if terminated {
				s.logger.Warn("all clients are cut, as the shim is told again to end")
				return
			}
			terminated = true
		case now := <-look.C:
			if count := s.gate.CutSlow(now, slowLimit) + s.handOvers.CutSlow(now, slowLimit); count > 0 {
				s.logger.Warn("slow clients are cut", "count", count)
			}
		}
	}
}
