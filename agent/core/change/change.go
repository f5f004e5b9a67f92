// Package change wakes goroutines that wait for what a mutex guards.
package change

import (
	"context"
	"sync"
)

// Signal wakes waiters after a change of what its mutex guards. The zero value is
// ready.
type Signal struct {
	next chan struct{} // closed by the next Notify; nil: nobody waits
}

// Notify wakes all waiters. The caller holds the mutex.
func (s *Signal) Notify() {
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// Next returns a channel that the next Notify closes. The caller holds the mutex.
func (s *Signal) Next() <-chan struct{} {
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Wait waits until holds returns true, or returns ctx's cause when ctx ends
// first. It locks mu around holds; the caller must not hold it.
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

// IsClosed tells whether a channel that is only ever closed has been.
func IsClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}
