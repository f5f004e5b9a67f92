package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"sync"

	"google.golang.org/grpc/peer"
)

// maxCalls bounds a client's calls at a time.
const maxCalls = 250

// serveControl hands a client's connection to the gRPC server and waits for its end.
func (s *Server) serveControl(w http.ResponseWriter) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
		return
	}
	s.clients.Add(1)
	defer s.clients.Done()
	client := &connection{Conn: conn, name: rand.Text(), reader: buffered.Reader, closed: make(chan struct{})}
	if s.connections.hand(client) {
		<-client.closed
	}
}

// connection is a connection of a BuildKit client with bytes already buffered after its request. Its calls have a
// pointer to it for their peer's address.
type connection struct {
	net.Conn
	// Names the client beside its sessions, whose names it chooses: nobody can guess this one.
	name   string
	reader *bufio.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *connection) Read(into []byte) (int, error) { return c.reader.Read(into) }

func (c *connection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *connection) RemoteAddr() net.Addr { return &address{c.Conn.RemoteAddr(), c} }

type address struct {
	net.Addr
	connection *connection
}

// connectionOf returns the connection of a call; nil for a call from within.
func connectionOf(ctx context.Context) *connection {
	if from, ok := peer.FromContext(ctx); ok {
		if of, ok := from.Addr.(*address); ok {
			return of.connection
		}
	}
	return nil
}

// connections is a listener of what another server has accepted.
type connections struct {
	handed chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newConnections() *connections {
	return &connections{handed: make(chan net.Conn), closed: make(chan struct{})}
}

// hand reports whether the connection is accepted.
func (c *connections) hand(conn net.Conn) bool {
	select {
	case c.handed <- conn:
		return true
	case <-c.closed:
		return false
	}
}

func (c *connections) Accept() (net.Conn, error) {
	select {
	case conn := <-c.handed:
		return conn, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

func (c *connections) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *connections) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }
