package mirror

import (
	"net"
	"sync"
)

const (
	// maxQueued bounds what waits beside what is being written, at most as much. It is
	// more than an agent's window lets its client send, in however small frames.
	maxQueued = 512 << 10
	// maxSpare bounds the buffer that is kept for what is written next.
	maxSpare = 64 << 10
)

// queuedConn is a connection whose writes wait for the peer only while much is
// queued. HTTP/2's client reads no further while it waits to write, and an agent
// that waits to write reads little: where datagrams go both ways, each would wait
// for the other.
type queuedConn struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond
	queue   []byte
	spare   []byte
	failure error // ends the writes
}

// queueing returns a connection that is to be closed.
func queueing(conn net.Conn) net.Conn {
	c := &queuedConn{Conn: conn}
	c.changed.L = &c.mu
	go c.run()
	return c
}

func (c *queuedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.failure == nil && len(c.queue) > 0 && len(c.queue)+len(p) > maxQueued {
		c.changed.Wait()
	}
	if c.failure != nil {
		return 0, c.failure
	}
	c.queue = append(c.queue, p...)
	c.changed.Broadcast()
	return len(p), nil
}

// Close drops what is queued.
func (c *queuedConn) Close() error {
	c.fail(net.ErrClosed)
	return c.Conn.Close()
}

func (c *queuedConn) run() {
	for {
		next := c.take()
		if next == nil {
			return
		}
		if _, err := c.Conn.Write(next); err != nil {
			c.fail(err)
			return
		}
		c.keep(next)
	}
}

// take waits for what is to be written next; nil after a failure.
func (c *queuedConn) take() (next []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.failure == nil && len(c.queue) == 0 {
		c.changed.Wait()
	}
	if c.failure != nil {
		return nil
	}
	next, c.queue, c.spare = c.queue, c.spare, nil
	c.changed.Broadcast()
	return next
}

func (c *queuedConn) keep(written []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(written) <= maxSpare {
		c.spare = written[:0]
	}
}

func (c *queuedConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
	}
	c.changed.Broadcast()
}
