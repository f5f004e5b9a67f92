package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/sockerless/sockerless/builder/worker"
)

// maxCalls bounds a client's calls at a time: to bake, buildx has one connection, and three calls for each target.
const maxCalls = 1024

// serveControl serves a client's connection until it ends.
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
	s.serveCalls(conn, buffered.Reader, func(counting holding) *grpc.Server {
		server := grpc.NewServer(slices.Concat(s.options, counting.options())...)
		s.controller.Register(server)
		return server
	})
}

// serveCalls serves a connection until its client has left, and counts what its calls hold.
func (s *Server) serveCalls(conn net.Conn, reader io.Reader, serverOf func(holding) *grpc.Server) {
	client := &connection{Conn: conn, name: rand.Text(), reader: reader, closed: make(chan struct{}), listing: semaphore.NewWeighted(1)}
	s.held.enter(client)
	defer s.held.leave(client)
	defer context.AfterFunc(s.closing, func() { _ = client.Close() })()
	counting := holding{&s.held, client}
	client.pieces = newPieces(counting)
	server := serverOf(counting)
	defer server.Stop()
	_ = server.Serve(&listener{client: client})
}

// connection is a connection of a BuildKit client with bytes already buffered after its request. Its calls have a
// pointer to it for their peer's address.
type connection struct {
	net.Conn
	// Names the client beside its sessions, whose names it chooses: nobody can guess this one.
	name   string
	reader io.Reader
	pieces *pieces
	// Frames sent.
	sent frames
	// Gives its lists of the build cache, and its reads of files, turns.
	listing *semaphore.Weighted
	// Those that it sends as a frontend of its builds.
	warnings worker.Warnings
	// Those under way; with the lock of what is held.
	builds int
	once   sync.Once
	closed chan struct{}
}

// Read ends with each frame, so that a call begins while its frame is the last one that was read.
func (c *connection) Read(into []byte) (int, error) {
	n, err := c.reader.Read(into[:min(len(into), c.pieces.missing())])
	if refused := c.pieces.take(into[:n], c.pieces.part); refused != nil {
		return 0, refused
	}
	return n, err
}

// Write ends what is counted of a stream with that: gRPC keeps the stream until its answer is written.
func (c *connection) Write(from []byte) (int, error) {
	n, err := c.Conn.Write(from)
	_ = c.sent.take(from[:n], func([]byte, bool) error {
		if c.sent.kind() == http2.FrameRSTStream || c.sent.kind() == http2.FrameHeaders && c.sent.has(http2.FlagHeadersEndStream) {
			c.pieces.end(c.sent.stream())
		}
		return nil
	})
	return n, err
}

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

// listener accepts a connection, and then waits for its end.
type listener struct {
	client     *connection
	isAccepted bool
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.isAccepted {
		l.isAccepted = true
		return l.client, nil
	}
	<-l.client.closed
	return nil, net.ErrClosed
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return l.client.LocalAddr() }
