package server

import (
	"encoding/binary"
	"net"
	"sync"
)

const (
	// mostOwed is how many frames are read while a write waits: net/http queues up
	// to 10,000 answers to them.
	mostOwed = 256
	// writePays is how many frames of a client a write counts as the answer to:
	// fewer than it holds at most, so that what is queued shrinks.
	writePays = 32
)

// pacedConn is an HTTP/2 server's connection of which little is read while its
// client does not read what is written.
type pacedConn struct {
	net.Conn

	left int // remaining bytes of the preface, or the current frame
	head []byte

	mu      sync.Mutex
	written sync.Cond // a write has ended
	writing bool
	owed    int
}

// Pace wraps a connection to be served by a server of ForNeighbours. Only one
// goroutine reads and only one writes at a time, as net/http does.
func Pace(conn net.Conn) net.Conn {
	c := &pacedConn{Conn: conn, left: len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}
	c.written.L = &c.mu
	return c
}

func (c *pacedConn) Read(p []byte) (int, error) {
	if c.left > 0 {
		n, err := c.Conn.Read(p[:min(len(p), c.left)])
		c.left -= n
		return n, err
	}
	if len(c.head) == 0 {
		c.await()
	}
	n, err := c.Conn.Read(p[:min(len(p), frameHead-len(c.head))])
	c.head = append(c.head, p[:n]...)
	if len(c.head) == frameHead {
		c.left = int(binary.BigEndian.Uint32(c.head) >> 8)
		c.head = c.head[:0]
		c.owe()
	}
	return n, err
}

func (c *pacedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writing = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writing = false
		c.owed = max(0, c.owed-writePays)
		c.written.Broadcast()
	}()
	return c.Conn.Write(p)
}

// await waits while the client does not read, and has sent as much as it may.
func (c *pacedConn) await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && c.owed >= mostOwed {
		c.written.Wait()
	}
}

// owe counts a frame. Those without an answer, such as small datagrams, only make
// the client wait for writes that take long.
func (c *pacedConn) owe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = min(c.owed+1, 2*mostOwed)
}
