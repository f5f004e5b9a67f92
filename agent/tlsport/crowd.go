package tlsport

import (
	"container/list"
	"net"
	"sync"
	"sync/atomic"

	"github.com/sockerless/sockerless/agent/core/change"
)

// member is a connection of a crowd.
type member struct {
	conn   *net.TCPConn
	remote string
	crowd  *crowd
	entry  *list.Element
	out    chan struct{} // closed once it was the oldest of too many
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
// oldest belong to the flood.
func (c *crowd) add(conn *net.TCPConn, remote string) (added, oldest *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added = &member{conn: conn, remote: remote, crowd: c, out: make(chan struct{})}
	added.entry = c.all.PushBack(added)
	if int64(c.all.Len()) > c.most.Load() {
		oldest = c.all.Remove(c.all.Front()).(*member)
		close(oldest.out)
	}
	return added, oldest
}

// leave removes the connection; false if it was the oldest before that.
func (m *member) leave() bool {
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.all.Remove(m.entry)
	return !change.IsClosed(m.out)
}
