package callback

import (
	"context"
	"net"

	"golang.org/x/sync/semaphore"
)

// taken hands connections to whoever accepts them.
type taken struct {
	conns  chan net.Conn
	places *semaphore.Weighted // of connections in use
	closed context.Context     // no more connections are handed out
	close  context.CancelFunc
}

func newTaken(ctx context.Context) taken {
	t := taken{conns: make(chan net.Conn), places: semaphore.NewWeighted(maxConnections)}
	t.closed, t.close = context.WithCancel(ctx)
	return t
}

// Accept waits for the next connection that the backend uses. It fails only when
// the listener is closed.
func (t *taken) Accept() (net.Conn, error) {
	select {
	case conn := <-t.conns:
		return conn, nil
	case <-t.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close hands out no more connections. Those in use continue; Drain ends what brings
// new ones.
func (t *taken) Close() error {
	t.close()
	return nil
}

// hand passes a connection to Accept.
func (t *taken) hand(conn net.Conn) error {
	select {
	case t.conns <- conn:
		return nil
	case <-t.closed.Done():
		conn.Close()
		return net.ErrClosed
	}
}

func (t *taken) free() { t.places.Release(1) }
