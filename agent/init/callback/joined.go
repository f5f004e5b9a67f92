package callback

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"time"
)

// JoinedListener takes the connections of a backend that reaches the agent by
// way of its platform, which may cut them: those that carry a link go on then.
type JoinedListener struct {
	net.Listener
	taken  chan net.Conn
	places chan struct{}
	closed context.Context
	close  context.CancelFunc
	links  *links
}

// Joined begins to take connections.
//
// resumeWithin is how long one that carries a link may be cut before that is given up
func Joined(listener net.Listener, resumeWithin time.Duration, logger *slog.Logger) *JoinedListener {
	l := &JoinedListener{Listener: listener, taken: make(chan net.Conn), places: make(chan struct{}, maxConnections)}
	l.closed, l.close = context.WithCancel(context.Background())
	l.links = newLinks(resumeWithin, l.hand, logger)
	go l.run(logger)
	return l
}

// Accept waits for the next connection. An error says that the listener was closed.
func (l *JoinedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.taken:
		return conn, nil
	case <-l.closed.Done():
		return nil, net.ErrClosed
	}
}

// Drain waits until the peers have got what was written, once all connections
// were closed. Until then links that were cut go on: only then nobody may come.
func (l *JoinedListener) Drain(ctx context.Context, isPatient func() bool) {
	l.links.drain(ctx, isPatient)
	l.Listener.Close()
}

// Close hands out no more connections. Those in use go on.
func (l *JoinedListener) Close() error {
	l.close()
	return nil
}

func (l *JoinedListener) run(logger *slog.Logger) {
	for {
		l.places <- struct{}{}
		conn, err := l.Listener.Accept()
		if err != nil && l.closed.Err() != nil {
			return
		}
		if err != nil {
			<-l.places
			logger.Error("accept a connection", "error", err)
			select { // Out of descriptors, most likely: it passes.
			case <-time.After(time.Second):
			case <-l.closed.Done():
				return
			}
			continue
		}
		go l.take(&usedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer), free: func() { <-l.places }})
	}
}

func (l *JoinedListener) take(used *usedConn) {
	used.SetReadDeadline(time.Now().Add(handshakeTimeout))
	first, err := used.reader.Peek(1)
	used.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		used.Close()
	case first[0] == opensLink || first[0] == resumesLink:
		l.links.carry(used)
	default:
		_ = l.hand(used)
	}
}

// hand gives a connection to whoever accepts it.
func (l *JoinedListener) hand(conn net.Conn) error {
	select {
	case l.taken <- conn:
		return nil
	case <-l.closed.Done():
		conn.Close()
		return net.ErrClosed
	}
}
