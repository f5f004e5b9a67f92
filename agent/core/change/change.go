// Package change wakes goroutines that wait for what a mutex guards.
package change

import (
	"context"
	"sync"
)

// Signal tells waiters that what its mutex guards has changed. The zero value is ready.
type Signal struct {
	next chan struct{} // closed by the next Notify; nil: nobody waits
}

// Notify wakes all waiters. The mutex is held.
func (s *Signal) Notify() {
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// Next is closed by the next Notify. The mutex is held.
func (s *Signal) Next() <-chan struct{} {
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Wait waits until holds, which is called with mu held; mu is not held by the caller.
// When ctx ends before, it answers ctx's cause.
func (s *Signal) Wait(ctx context.Context, mu sync.Locker, holds func() bool) error {
	for {
		mu.Lock()
		if holds() {
			mu.Unlock()
			return nil
		}
		next := s.Next()
		mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
