package tlsport

import (
	"container/list"
	"net"
	"sync"
	"sync/atomic"
)

// member is a connection of a crowd.
type member struct {
	conn   *net.TCPConn
	remote string
	isOut  bool
}

// crowd is a bounded number of connections, the oldest first.
type crowd struct {
	// most is how many there may be.
	most atomic.Int64
	mu   sync.Mutex
	all  list.List
}

// add adds a connection. If there are too many, the oldest is no longer one and is
// to be closed: a legitimate client takes only a moment, so that in a flood the
// oldest belong to the flood. left removes the new one; false if it was the oldest
// before that.
func (c *crowd) add(conn *net.TCPConn, remote string) (oldest *member, left func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := &member{conn: conn, remote: remote}
	entry := c.all.PushBack(added)
	if int64(c.all.Len()) > c.most.Load() {
		oldest = c.all.Remove(c.all.Front()).(*member)
		oldest.isOut = true
	}
	return oldest, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !added.isOut {
			c.all.Remove(entry)
		}
		return !added.isOut
	}
}
