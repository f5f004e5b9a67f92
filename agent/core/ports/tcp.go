package ports

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// dialTimeout bounds a connection's way into the container.
const dialTimeout = 10 * time.Second

// acceptPause is the wait after an accept that failed (no descriptors left).
const acceptPause = 50 * time.Millisecond

type tcpForwarder struct {
	listener *net.TCPListener
	target   target
	freed    <-chan struct{} // closed once the port is free: the container has ended
	logger   *slog.Logger
}

func (f *tcpForwarder) close() { f.listener.Close() }

// serve forwards until the listener is closed; then, at the end of ctx, it
// ends what is still connected.
func (f *tcpForwarder) serve(ctx context.Context) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		client, err := f.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			f.logger.Warn("accept on a published port", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		connections.Add(1)
		go func() {
			defer connections.Done()
			f.forward(ctx, client)
		}()
	}
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
	// A client that keeps its half open does not keep a port's last connection.
	join(ctx, client, server.(*net.TCPConn), func() {
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
	// dismissal bounds how long a client may take to leave with nobody behind its
	// port.
	dismissal = 2 * time.Second
	// maxUnheard bounds what of its bytes are read until then.
	maxUnheard = 1 << 20
)

// dismiss ends a connection in order: clients that wait for a port take a reset
// for a failure of theirs. It reads what they send, else the close would be a
// reset.
func dismiss(ctx context.Context, client *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	_ = client.SetReadDeadline(time.Now().Add(dismissal))
	// After an error too: the connection is gone, and reading says so.
	_ = client.CloseWrite()
	_, _ = io.CopyN(io.Discard, client, maxUnheard)
}

// HalfCloser is a stream connection with two directions that end apart.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
	CloseRead() error
}

// Join copies both ways (by splice where the kernel can) until both directions
// have ended or ctx is done. The end of one direction is passed on; the other
// goes on.
func Join(ctx context.Context, a, b HalfCloser) { join(ctx, a, b, func() {}) }

// join is Join that calls ended, in a goroutine of its own, once b has ended its
// direction.
func join(ctx context.Context, a, b HalfCloser, ended func()) {
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
			// After an error too: the reader there gets no more, and the writer
			// here finds out. Errors mean that the connection is gone already.
			_ = to.CloseWrite()
			_ = from.CloseRead()
			if from == b {
				go ended()
			}
		}()
	}
	directions.Wait()
}
