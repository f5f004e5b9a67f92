package containerinit

import "sync"

// shares bounds what other containers' agents hold at once, by the key in their
// certificates.
type shares struct {
	each, all int

	mu   sync.Mutex
	held map[string]int
	sum  int
}

// newShares lets each key hold so many, and all together so many.
func newShares(each, all int) *shares {
	return &shares{each: each, all: all, held: make(map[string]int)}
}

// take reports whether a key may hold one more, until give.
func (s *shares) take(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] >= s.each || s.sum >= s.all {
		return false
	}
	s.held[key]++
	s.sum++
	return true
}

func (s *shares) give(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum--
	if s.held[key]--; s.held[key] == 0 {
		delete(s.held, key)
	}
}
