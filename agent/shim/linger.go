package shim

import (
	"context"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// lingerLimit bounds how long the shim of a released container stays for slow
// clients. Until then each must take something within every slowLimit, and the
// remaining data does not grow.
const lingerLimit = 24 * time.Hour

// slowLimit is how long a client may read nothing of its remaining data; a
// variable for tests. It covers the largest step in which progress is visible: a
// call's HTTP/2 window opens by a MiB, and the kernel reports 64 KiB steps of a
// handed-over connection.
var slowLimit = 10 * time.Minute

// linger keeps sending slow clients their output, as dockerd does after a
// removal. It needs nothing of the container: the log is read from descriptors,
// sessions hold the rest of theirs in memory, and archives have its mounts (see
// holdFiles). From now on the socket refuses connections, which tells the host
// process. Each client that stops reading is cut alone. terminated: the host
// process has already asked for the release, perhaps repeatedly; another SIGTERM
// from now on cuts all of them.
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
	go func() { _ = s.http.Shutdown(ctx) }() // lets calls end
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
