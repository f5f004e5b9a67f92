// Package batch does deferred work for many callers together.
package batch

import (
	"context"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
)

// Queue passes items to work in batches, one call at a time, from a goroutine
// that exists while there is work.
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

// New returns a queue: items that arrive within gathering of the first are worked
// on together, at most most of them.
func New(gathering time.Duration, most int, work func(items []string)) *Queue {
	return &Queue{gathering: gathering, most: most, work: work}
}

// Add queues an item. It waits only while most items are queued.
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

// Settle waits until the queue is empty, or for limit, and stops gathering
// meanwhile: for a process that is about to exit.
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

// gather returns the next batch. If it is empty, the queue is too, and the
// goroutine must exit.
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
