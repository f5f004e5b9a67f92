package worker

import "sync"

// RefCounted has values by key, each from its first user to its last. Its zero value is ready.
type RefCounted[T any] struct {
	mu sync.Mutex
	of map[string]*counted[T]
}

type counted[T any] struct {
	value T
	users int
}

// Acquire returns the value of a key, which is that of its first user, until the returned function is called.
func (r *RefCounted[T]) Acquire(key string, first T) (value T, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.of[key]
	if known == nil {
		if r.of == nil {
			r.of = map[string]*counted[T]{}
		}
		known = &counted[T]{value: first}
		r.of[key] = known
	}
	known.users++
	return known.value, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if known.users--; known.users == 0 {
			delete(r.of, key)
		}
	}
}

// Value returns the value of a key while it has users.
func (r *RefCounted[T]) Value(key string) (value T, isUsed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.of[key]; known != nil {
		return known.value, true
	}
	return value, false
}
