package containers

import (
	"fmt"
	"sync"

	"connectrpc.com/connect"
)

// mostSpares are held at a time.
const mostSpares = 8

// spares are those that are prepared or wait.
type spares struct {
	mu     sync.Mutex
	held   map[string]*spare // by container ID
	closed bool              // there will be no more
}

// get answers nil for a container that is none.
func (s *spares) get(id string) *spare {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id]
}

// add makes room for one. RESOURCE_EXHAUSTED: there is none.
func (s *spares) add(id string, added *spare) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.held) >= mostSpares {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d spares are held", len(s.held)))
	}
	if s.held == nil {
		s.held = map[string]*spare{}
	}
	s.held[id] = added
	return nil
}

// remove forgets one, which has been launched or ended.
func (s *spares) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.held[id]; held != nil && held.end != nil {
		held.end.Stop()
	}
	delete(s.held, id)
}

// isNobodys tells whether it is one that is not created.
func (s *spares) isNobodys(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[id]
	return held != nil && !held.created
}

func (s *spares) setCreated(id string, created bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.held[id]; held != nil {
		held.created = created
	}
}

// that answers the IDs of those that are wanted.
func (s *spares) that(wanted func(*spare) bool) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, held := range s.held {
		if wanted(held) {
			ids = append(ids, id)
		}
	}
	return ids
}

// close has no more added, and answers those that are held.
func (s *spares) close() []string {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.that(func(*spare) bool { return true })
}
