package worker

import (
	"context"
	"sync"
)

// holds count the users of the backend's objects, by name: an object in use is not removed.
type holds struct {
	guard  sync.Mutex
	counts map[string]int
	// Pending removals, closed at their end.
	leaving map[string]chan struct{}
}

func newHolds() *holds {
	return &holds{counts: map[string]int{}, leaving: map[string]chan struct{}{}}
}

// hold keeps an object from being removed. It waits for a pending removal, after which the object is gone.
func (h *holds) hold(ctx context.Context, name string) error {
	for {
		h.guard.Lock()
		gone, isLeaving := h.leaving[name]
		if !isLeaving {
			h.counts[name]++
			h.guard.Unlock()
			return nil
		}
		h.guard.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (h *holds) letGo(name string) {
	h.guard.Lock()
	defer h.guard.Unlock()
	if h.counts[name]--; h.counts[name] == 0 {
		delete(h.counts, name)
	}
}

// claim begins the removal of an unused object, and returns a function that ends it.
func (h *holds) claim(name string) (release func(), ok bool) {
	h.guard.Lock()
	defer h.guard.Unlock()
	_, isLeaving := h.leaving[name]
	if isLeaving || h.counts[name] > 0 {
		return nil, false
	}
	gone := make(chan struct{})
	h.leaving[name] = gone
	return func() {
		h.guard.Lock()
		defer h.guard.Unlock()
		delete(h.leaving, name)
		close(gone)
	}, true
}

func (h *holds) isInUse(name string) bool {
	h.guard.Lock()
	defer h.guard.Unlock()
	return h.counts[name] > 0
}
