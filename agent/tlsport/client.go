package tlsport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/change"
)

const (
	// copied is how many bytes of what Node says are held here, once there are any.
	copied = 32 << 10
	// record is the longest of TLS, and quiet how much a client says whose connection
	// may then be idle for long.
	record, quiet = 16 << 10, 1 << 10
	// lingering limits how long a client that was answered may take to close its end.
	lingering = 2 * time.Second
)

// client is a client whose handshake is done.
type client struct {
	port *port
	id   int
	tcp  *net.TCPConn
	tls  *tls.Conn
	up   *net.UnixConn // its other end is Node's; nil before its turn

	mu     sync.Mutex
	state  string        // Node's, as it says
	noted  chan struct{} // closed at the next change of the state
	over   chan struct{} // closed once nothing is copied any more
	unread *member       // nil if it is not one of them
}

// outputs are what is copied of Node's: thousands of clients may be idle.
var outputs = sync.Pool{New: func() any { return new([copied]byte) }}

// newClient makes the death of this process a reset: some clients take an end
// without close_notify for one in order.
func newClient(p *port, tcp *net.TCPConn, conn *tls.Conn) *client {
	_ = tcp.SetLinger(0)
	return &client{port: p, tcp: tcp, tls: conn, noted: make(chan struct{}), over: make(chan struct{})}
}

// note takes what Node says of its side.
func (c *client) note(state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	close(c.noted)
	c.noted = make(chan struct{})
	if state != ended && c.unread == nil && !change.IsClosed(c.over) {
		// Node's last output still goes to a client that reads.
		var oldest *member
		if c.unread, oldest = c.port.unread.add(c.tcp, ""); oldest != nil {
			oldest.conn.Close()
		}
	}
}

// await waits until Node's state is one of these, and returns it; cut if the Node
// process is gone.
func (c *client) await(states ...string) string {
	for {
		c.mu.Lock()
		state, noted := c.state, c.noted
		c.mu.Unlock()
		if slices.Contains(states, state) {
			return state
		}
		select {
		case <-noted:
		case <-c.port.node:
			return reset
		case <-c.over:
			return cut
		}
	}
}

// serve copies both ways until both sides have ended, or one is gone.
func (c *client) serve() {
	defer close(c.over)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		c.fromClient()
	}()
	switch c.toClient() {
	case inOrder:
		select {
		case <-heard: // Both have ended.
		case <-c.closed():
			_ = c.tcp.CloseWrite()
			_ = c.tcp.SetReadDeadline(time.Now().Add(lingering))
			<-heard
		}
	case unheard:
		// Node still gets all that the client had sent before it hung up.
		go func() { _, _ = io.Copy(io.Discard, c.up) }()
		<-heard
		c.gone()
	}
	c.closeTCP(false)
	<-heard
}

// forget gives back the client's place among the unread.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread != nil {
		c.unread.leave()
	}
}

// closed is closed once Node reads no more.
func (c *client) closed() <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		c.await(closed, cut, reset)
	}()
	return over
}

// fromClient copies what the client says, and its end.
func (c *client) fromClient() {
	buffer := make([]byte, quiet)
	isRead := true
	for {
		n, err := c.tls.Read(buffer)
		if n > 0 && isRead {
			_, failure := c.up.Write(buffer[:n])
			isRead = failure == nil // The rest is read for the client to get its answer.
		}
		if length := lengthAfter(n); length != len(buffer) {
			buffer = make([]byte, length)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_ = c.port.channel.Tell(state{ID: c.id, State: ended})
			_ = c.up.CloseWrite()
			return
		case errors.Is(err, os.ErrDeadlineExceeded): // of an end that lingers
			return
		default:
			c.gone()
			return
		}
	}
}

// lengthAfter is how much is read next from a client that has said so much at once.
func lengthAfter(n int) int {
	if n < quiet {
		return quiet
	}
	return record
}

// outcome is how the copying of Node's output has ended.
type outcome int

const (
	inOrder outcome = iota
	cutOff          // by Node
	unheard         // the client has hung up
)

// toClient copies what Node says, and its end, which counts only by Node's word.
func (c *client) toClient() outcome {
	for isOver := false; !isOver; {
		var failure error
		if isOver, failure = c.copyOutput(); failure != nil {
			return unheard
		}
	}
	switch c.await(ended, closed, cut, reset) {
	case ended, closed:
		_ = c.tls.CloseWrite()
		return inOrder
	case cut:
		c.cut(false)
	default:
		c.cut(true)
	}
	return cutOff
}

// copyOutput waits for output of Node's, and copies it. failure is the client's.
func (c *client) copyOutput() (isOver bool, failure error) {
	raw, err := c.up.SyscallConn()
	if err != nil {
		return true, nil
	}
	var buffer *[copied]byte // nil while there is nothing
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		buffer = outputs.Get().(*[copied]byte)
		for {
			if n, failed = unix.Read(int(fd), buffer[:]); failed != unix.EINTR {
				break
			}
		}
		if failed == unix.EAGAIN {
			outputs.Put(buffer)
			buffer = nil
		}
		return failed != unix.EAGAIN
	})
	if buffer != nil {
		defer outputs.Put(buffer)
	}
	if err != nil || failed != nil || n <= 0 {
		return true, nil
	}
	_, failure = c.tls.Write(buffer[:n])
	return false, failure
}

// gone tells Node that the client has left without an end.
func (c *client) gone() {
	_ = c.port.channel.Tell(state{ID: c.id, State: cut})
	c.cut(false)
}

// cut closes both connections with no word of an end: the client's TLS is not
// closed in order.
func (c *client) cut(isReset bool) {
	c.closeTCP(isReset)
	if c.up != nil {
		c.up.Close()
	}
}

func (c *client) closeTCP(isReset bool) {
	if !isReset {
		_ = c.tcp.SetLinger(-1)
	}
	c.tcp.Close()
}
