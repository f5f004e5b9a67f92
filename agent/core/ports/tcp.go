package ports

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/accepting"
)

// dialTimeout bounds the connection to the container.
const dialTimeout = 10 * time.Second

type tcpForwarder struct {
	listener *net.TCPListener
	target   target
	room     room
	freed    <-chan struct{} // closed once the port is free: the container has ended
	logger   *slog.Logger
}

func (f *tcpForwarder) close() { f.listener.Close() }

// serve forwards until the listener is closed; at the end of ctx it closes open
// connections.
func (f *tcpForwarder) serve(ctx context.Context) {
	open, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-f.freed:
			stop()
		case <-open.Done():
		}
	}()
	accepting.Serve(open, f.room.connections, f.listener.AcceptTCP,
		func(err error) { f.logger.Warn("accept on a published port", "error", err) },
		func(client *net.TCPConn) { f.forward(ctx, client) })
}

func (f *tcpForwarder) forward(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	server, err := f.target.dial(dialCtx)
	cancel()
	if err != nil {
		f.logger.Debug("connect to a published port's target", "error", err)
		dismiss(ctx, client)
		return
	}
	defer server.Close()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	// A client that keeps its half open does not hold a freed port's last
	// connection.
	Join(ctx, client, server.(*net.TCPConn), func() {
		select {
		case <-f.freed:
		case <-ctx.Done():
		}
		select {
		case <-time.After(hangUp):
		case <-ctx.Done():
		}
		cut()
	})
}

const (
	// dismissal bounds how long a client may take to leave when nobody is behind
	// its port.
	dismissal = 2 * time.Second
	// maxUnheard bounds how many of its bytes are read until then.
	maxUnheard = 1 << 20
)

// dismiss closes a connection orderly, since clients that poll for a port treat a
// reset as their own failure. It reads what they send, because a close with
// unread data would be a reset.
func dismiss(ctx context.Context, client *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	_ = client.SetReadDeadline(time.Now().Add(dismissal))
	// After an error too: the connection is gone, and the read returns at once.
	_ = client.CloseWrite()
	_, _ = io.CopyN(io.Discard, client, maxUnheard)
}

// HalfCloser is a stream connection whose directions end separately.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
	CloseRead() error
}

// Join copies in both directions (by splice if the kernel can) until both have
// ended or ctx is done. It forwards the end of one direction; the other
// continues. It calls ended, in its own goroutine, once b has ended its direction.
func Join(ctx context.Context, a, b HalfCloser, ended func()) {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	var directions sync.WaitGroup
	for _, pair := range [][2]HalfCloser{{a, b}, {b, a}} {
		directions.Add(1)
		go func() {
			defer directions.Done()
			from, to := pair[0], pair[1]
			io.Copy(to, from)
			// After an error too: the reader gets no more, and the writer
			// notices. Errors mean that the connection is already gone.
			_ = to.CloseWrite()
			_ = from.CloseRead()
			if from == b {
				go ended()
			}
		}()
	}
	directions.Wait()
}
