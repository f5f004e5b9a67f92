package names

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/semaphore"

	"github.com/sockerless/sockerless/agent/core/accepting"
)

const (
	// mostConnections bounds the resolver's TCP connections.
	mostConnections = 64
	// mostQuestion bounds a question by TCP, as by UDP: decoded, a hostile one takes
	// hundreds of times its bytes.
	mostQuestion = dns.MinMsgSize
	// writeTimeout is the limit for the client to take an answer.
	writeTimeout = 2 * time.Second
)

// placedListener's connections have places.
type placedListener struct {
	net.Listener
	ctx    context.Context // ends with the resolver
	places *semaphore.Weighted
}

func (l placedListener) Accept() (net.Conn, error) {
	conn, err := accepting.Next(l.ctx, l.places, l.Listener.Accept)
	if err != nil {
		return nil, err
	}
	return &placedConn{Conn: conn, leave: sync.OnceFunc(func() { l.places.Release(1) })}, nil
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	leave func()
}

// Write closes the connection of a client that does not take the answer.
func (c *placedConn) Write(answer []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := c.Conn.Write(answer)
	if err != nil {
		c.Close()
	}
	return n, err
}

func (c *placedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

var errLongQuestion = errors.New("the question is too long")

// boundedReader refuses long questions by TCP.
type boundedReader struct{ dns.Reader }

func (r boundedReader) ReadTCP(conn net.Conn, timeout time.Duration) ([]byte, error) {
	return r.Reader.ReadTCP(&question{Conn: conn}, timeout)
}

// question is one of a connection: its length in two bytes, and then itself.
type question struct {
	net.Conn
	read, length int
}

func (q *question) Read(p []byte) (int, error) {
	n, err := q.Conn.Read(p)
	for _, b := range p[:n] {
		if q.read < 2 {
			q.length = q.length<<8 | int(b)
		}
		q.read++
	}
	if q.read >= 2 && q.length > mostQuestion {
		return 0, errLongQuestion
	}
	return n, err
}
