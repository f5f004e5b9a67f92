// Package batch does work behind those who ask for it, for many at once.
package batch

import (
	"context"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
)

// Queue hands items to work, one call after the other, in a goroutine that is there
// while there is work.
type Queue struct {
	gathering time.Duration
	most      int
	work      func(items []string)

	mu       sync.Mutex
	waiting  []string
	working  bool
	settling int           // callers of Settle
	changed  change.Signal // of any of these
}

// New makes a queue: what comes within gathering of an item is worked on with it,
// most items at once.
func New(gathering time.Duration, most int, work func(items []string)) *Queue {
	return &Queue{gathering: gathering, most: most, work: work}
}

// Add has an item worked on. It waits only where most items wait already.
func (q *Queue) Add(item string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == q.most {
		next := q.changed.Next()
		q.mu.Unlock()
		<-next
		q.mu.Lock()
	}
	q.waiting = append(q.waiting, item)
	q.changed.Notify()
	if !q.working {
		q.working = true
		go q.run()
	}
}

// Settle waits until everything is worked on, or for so long, and lets nothing be
// gathered meanwhile: for a process that leaves.
func (q *Queue) Settle(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	q.settle(1)
	defer q.settle(-1)
	_ = q.changed.Wait(ctx, &q.mu, func() bool { return !q.working })
}

func (q *Queue) settle(callers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settling += callers
	q.changed.Notify()
}

func (q *Queue) run() {
	for items := q.gather(); len(items) > 0; items = q.gather() {
		q.work(items)
	}
}

// gather returns what is due. Nothing waits where it answers none, and the goroutine
// is one that works no more.
func (q *Queue) gather() []string {
	ctx, cancel := context.WithTimeout(context.Background(), q.gathering)
	defer cancel()
	_ = q.changed.Wait(ctx, &q.mu, func() bool {
		return len(q.waiting) == 0 || len(q.waiting) == q.most || q.settling > 0
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.waiting
	q.waiting = nil
	q.working = len(items) > 0
	q.changed.Notify()
	return items
}
