package log

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
)

// Position is a place between two records of a log. It stays valid while older
// files are dropped.
type Position struct {
	segment uint64
	offset  int64
}

func (p Position) before(q Position) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// droppedKept is how many files dropped by rotation stay open for readers still
// in them. A follower further behind jumps to the oldest file.
const droppedKept = 2

// chain is the list of a log's files, shared by its writer and its readers.
type chain struct {
	mu       sync.Mutex
	segments []*segment // oldest first, never empty
	dropped  []*segment // unlinked, still open, oldest first
	readers  int
	closed   bool          // the files are closed, or will be when the last reader leaves
	runs     uint64        // ended runs whose output is written
	runEnd   Position      // where the last of them ended
	changed  change.Signal // notifies readers to look again
	told     toldRuns
}

// toldRuns is the state of runs as told to the writer; their output may still
// have to be written.
type toldRuns struct {
	mu    sync.Mutex // held before chain.mu where both are
	runs  uint64     // runs that have ended
	ended bool       // no run is going on
}

func newChain(segments []*segment) *chain { return &chain{segments: segments} }

func (c *chain) last() *segment { return c.segments[len(c.segments)-1] }

// end is the place after the last record. c.mu is held.
func (c *chain) end() Position {
	last := c.last()
	return Position{last.number, last.size.Load()}
}

// append makes s the last file. c.mu is held.
func (c *chain) append(s *segment) {
	c.last().next = s
	c.segments = append(c.segments, s)
	c.changed.Notify()
}

// dropOldest removes the oldest file from the log; the caller unlinks it. c.mu is
// held.
func (c *chain) dropOldest() *segment {
	s := c.segments[0]
	c.segments = c.segments[1:]
	c.dropped = append(c.dropped, s)
	kept := droppedKept
	if c.readers == 0 {
		kept = 0
	}
	for len(c.dropped) > kept {
		c.dropped[0].close()
		c.dropped = c.dropped[1:]
	}
	return s
}

// leave releases a reader, which was counted at its creation.
func (c *chain) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers--
	c.closeUnread()
}

// close closes the files once nobody reads them.
func (c *chain) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeUnread()
}

// closeUnread closes files that only readers needed. c.mu is held.
func (c *chain) closeUnread() {
	if c.readers > 0 {
		return
	}
	closeSegments(c.dropped)
	c.dropped = nil
	if c.closed {
		closeSegments(c.segments)
	}
}

// cursor is a reader's place in the chain, and its limits.
type cursor struct {
	segment *segment
	offset  int64
	limit   *Position // read up to here; nil: follow
	run     uint64    // followed: how many ended before it
}

// state returns what can be read at c: bytes of its segment up to `upTo`, the
// next segment, or that nothing follows. c.mu is held.
func (c *chain) state(at *cursor) (upTo int64, next *segment, done bool) {
	upTo = at.segment.size.Load()
	limit := at.limit
	if limit == nil && c.runs > at.run {
		limit = &c.runEnd
	}
	if limit == nil {
		return upTo, at.segment.next, false
	}
	if at.segment.number > limit.segment {
		return at.offset, nil, true
	}
	if at.segment.number == limit.segment {
		upTo = min(upTo, limit.offset)
		return upTo, nil, at.offset >= upTo
	}
	return upTo, at.segment.next, at.segment.next == nil && at.offset >= upTo
}

// await waits until there is something to read at the cursor, a next file or the
// end; at the deadline (zero: none) it reports the end.
func (c *chain) await(ctx context.Context, at *cursor, deadline time.Time) (upTo int64, next *segment, done bool, err error) {
	var expired <-chan time.Time
	for {
		c.mu.Lock()
		upTo, next, done = c.state(at)
		if at.offset < upTo || next != nil || done {
			c.mu.Unlock()
			return upTo, next, done, nil
		}
		changed := c.changed.Next()
		c.mu.Unlock()
		if expired == nil && !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-changed:
		case <-expired:
			return 0, nil, true, nil
		case <-ctx.Done():
			return 0, nil, false, fmt.Errorf("wait for log: %w", context.Cause(ctx))
		}
	}
}
