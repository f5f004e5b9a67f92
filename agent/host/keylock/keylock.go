// Package keylock serialises work on one container, layer or network without
// blocking the others.
package keylock

import (
	"context"
	"sync"
)

// Locks is a set of mutexes, one per key in use. Its zero value is ready.
type Locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	token  chan struct{} // holds one element while the lock is free
	claims int           // holder and waiters; guarded by Locks.mu
}

// Lock waits until key is free or ctx ends. The caller calls unlock once.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	entry := l.claim(key)
	unlock = func() {
		entry.token <- struct{}{}
		l.release(key, entry)
	}
	select {
	case <-entry.token: // free: no wait, so ctx does not matter
		return unlock, nil
	default:
	}
	select {
	case <-entry.token:
		return unlock, nil
	case <-ctx.Done():
		l.release(key, entry)
		return nil, context.Cause(ctx)
	}
}

func (l *Locks) claim(key string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	entry, ok := l.held[key]
	if !ok {
		entry = &lock{token: make(chan struct{}, 1)}
		entry.token <- struct{}{}
		l.held[key] = entry
	}
	entry.claims++
	return entry
}

func (l *Locks) release(key string, entry *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry.claims--; entry.claims == 0 {
		delete(l.held, key)
	}
}
