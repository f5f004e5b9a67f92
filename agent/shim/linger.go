package shim

import (
	"context"
	"time"
)

// lingerLimit bounds how long a shim stays whose container is released, however its
// clients read: each has until then taken something in every slowLimit, and what
// there is to take does not grow any more.
const lingerLimit = 24 * time.Hour

// slowLimit is how long a client may take nothing of what is left for it; a
// variable, so that tests need not wait as long.
var slowLimit = time.Minute

// linger goes on giving slow clients their output, as dockerd does after a removal.
// Nothing of the container is needed for it: the log is read from descriptors, and
// sessions have the rest of theirs in memory. From its beginning on nobody can
// connect, by which the host process knows that. terminated: it has said already that
// it releases the container; told again, the shim cuts its clients.
func (s *shim) linger(terminated bool) {
	soon, cancelSoon := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancelSoon()
	if s.gate.WaitIdle(soon) == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lingerLimit)
	defer cancel()
	s.listening.Close()
	go func() { _ = s.http.Shutdown(ctx) }() // which lets calls end
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		_ = s.gate.WaitIdle(ctx)
	}()
	look := time.NewTicker(slowLimit / 60)
	defer look.Stop()
	cut := time.NewTimer(slowLimit)
	defer cut.Stop()
	for taken := s.gate.Taken(); ; {
		select {
		case <-idle:
			return
		case <-s.terminate:
			if terminated {
				return
			}
			terminated = true
		case <-look.C:
			before := taken
			taken = s.gate.Taken()
			if progressed := s.handOvers.Progressed(); progressed || taken > before {
				cut.Reset(slowLimit)
			}
		case <-cut.C:
			s.logger.Warn("a slow client is cut")
			return
		}
	}
}
