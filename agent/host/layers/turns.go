package layers

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// mostAtWork is how many layers are written to disk at a time: of more the threads
	// would leave users' calls no time, however low their priority.
	mostAtWork = 8
	// longestTurn is how long a layer keeps others from their turn.
	longestTurn = 10 * time.Millisecond
	// patience is how long a turn lasts while its layer's tar does not come.
	patience = 5 * time.Millisecond
)

// atWork has the turns of all layers.
var atWork = turns{free: mostAtWork}

// turns go by halves to the layer that has had least time, the last of those that came
// with none, so that many that take long keep none waiting, and to the one that has
// waited longest.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting []*turn // longest first
	byWait  bool    // the last was given to the one that had waited longest
}

// turn is a layer's share of turns, used by one goroutine at a time.
type turn struct {
	of    *turns
	used  time.Duration
	began time.Time
	held  bool
	given chan struct{}
}

func (s *turns) share() *turn { return &turn{of: s, given: make(chan struct{}, 1)} }

// begin waits for a turn.
func (t *turn) begin(ctx context.Context) error {
	if !t.of.tryTake(t) {
		select {
		case <-t.given:
		case <-ctx.Done():
			if !t.of.leave(t) { // it was given meanwhile
				<-t.given
				t.of.pass()
			}
			return context.Cause(ctx)
		}
	}
	t.held, t.began = true, time.Now()
	return nil
}

// end gives the turn to another layer; without one it does nothing.
func (t *turn) end() {
	if t.held {
		t.held = false
		t.used += time.Since(t.began)
		t.of.pass()
	}
}

// renew lets others have their turn, if this one has lasted long enough. It fails once
// nobody waits for the layer.
func (t *turn) renew(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if time.Since(t.began) < longestTurn {
		return nil
	}
	t.end()
	return t.begin(ctx)
}

// tryTake reports whether there was a free turn; if not, t waits.
func (s *turns) tryTake(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free > 0 {
		s.free--
		return true
	}
	s.waiting = append(s.waiting, t)
	return false
}

// leave reports whether t was still waiting.
func (s *turns) leave(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, t)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	return i >= 0
}

func (s *turns) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.free++
		return
	}
	next := 0
	if s.byWait = !s.byWait; !s.byWait {
		for i, each := range s.waiting {
			if each.used <= s.waiting[next].used {
				next = i
			}
		}
	}
	s.waiting[next].given <- struct{}{}
	s.waiting = slices.Delete(s.waiting, next, next+1)
}

// turnReader reads a layer's tar, which takes turns: each read may renew the turn,
// and ends it while the source keeps its reader waiting.
type turnReader struct {
	ctx    context.Context
	source io.Reader
	turn   *turn
}

func (r *turnReader) Read(p []byte) (int, error) {
	if err := r.turn.renew(r.ctx); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	timer := time.AfterFunc(patience, func() {
		r.turn.end()
		close(ended)
	})
	n, err := r.source.Read(p)
	if !timer.Stop() {
		<-ended
		if failure := r.turn.begin(r.ctx); failure != nil {
			return n, failure
		}
	}
	return n, err
}
