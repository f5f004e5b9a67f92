package tlsport

import (
	"container/list"
	"net"
	"sync"
	"sync/atomic"
)

// stranger is a connection that has shown no certificate yet.
type stranger struct {
	conn   *net.TCPConn
	remote string
	isOut  bool
}

// strangers are those of a port, the oldest first.
type strangers struct {
	// most is how many there may be.
	most atomic.Int64
	mu   sync.Mutex
	all  list.List
}

// add adds a stranger. If there are too many, the oldest is no longer one and is
// to be closed: a legitimate client takes only a moment, so that in a flood the
// oldest belong to the flood. left removes the new one; false if it was the oldest
// before that.
func (s *strangers) add(conn *net.TCPConn, remote string) (oldest *stranger, left func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := &stranger{conn: conn, remote: remote}
	entry := s.all.PushBack(added)
	if int64(s.all.Len()) > s.most.Load() {
		oldest = s.all.Remove(s.all.Front()).(*stranger)
		oldest.isOut = true
	}
	return oldest, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !added.isOut {
			s.all.Remove(entry)
		}
		return !added.isOut
	}
}
