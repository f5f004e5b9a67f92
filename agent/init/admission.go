package containerinit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxHandshakes bounds the connections that have not proved themselves.
	maxHandshakes    = 64
	handshakeTimeout = 5 * time.Second
	// refusalsLogged is how many refusals a minute are logged one by one: the
	// port is open to neighbours, and a line costs money in some clouds.
	refusalsLogged = 10
)

// gatekeeper is a listener that hands out only connections whose client was
// admitted.
type gatekeeper struct {
	net.Listener
	tls    *tls.Config
	logger *slog.Logger

	admitted chan net.Conn
	slots    chan struct{}
	closing  context.Context
	close    context.CancelCauseFunc
	pending  sync.WaitGroup

	mu      sync.Mutex
	minute  time.Time
	refused int
}

func newGatekeeper(listener net.Listener, config *tls.Config, logger *slog.Logger) *gatekeeper {
	g := &gatekeeper{
		Listener: listener,
		tls:      config,
		logger:   logger,
		admitted: make(chan net.Conn),
		slots:    make(chan struct{}, maxHandshakes),
	}
	g.closing, g.close = context.WithCancelCause(context.Background())
	go g.run()
	return g
}

// Accept waits for the next admitted connection.
func (g *gatekeeper) Accept() (net.Conn, error) {
	select {
	case conn := <-g.admitted:
		return conn, nil
	case <-g.closing.Done():
		return nil, context.Cause(g.closing)
	}
}

// Close ends the listener and the handshakes under way.
func (g *gatekeeper) Close() error {
	g.close(net.ErrClosed)
	err := g.Listener.Close()
	g.pending.Wait()
	return err
}

func (g *gatekeeper) run() {
	delay := time.Duration(0)
	for {
		conn, err := g.Listener.Accept()
		if g.closing.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			// Out of descriptors, most likely: it passes.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			g.logger.Error("accept a connection", "error", err)
			select {
			case <-time.After(delay):
			case <-g.closing.Done():
				return
			}
			continue
		}
		delay = 0
		select {
		case g.slots <- struct{}{}:
			g.pending.Add(1)
			go g.handshake(conn)
		default:
			g.refuse(conn, fmt.Errorf("%d connections are in their handshake", maxHandshakes))
		}
	}
}

func (g *gatekeeper) handshake(conn net.Conn) {
	defer g.pending.Done()
	defer func() { <-g.slots }()
	ctx, cancel := context.WithTimeout(g.closing, handshakeTimeout)
	defer cancel()
	secure := tls.Server(conn, g.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		if g.closing.Err() != nil {
			conn.Close() // The agent leaves: nobody was refused.
			return
		}
		g.refuse(conn, err)
		return
	}
	select {
	case g.admitted <- newAdmittedConn(secure):
	case <-g.closing.Done():
		conn.Close()
	}
}

// refuse logs the reason before it closes the connection: a client that sees the end finds it told.
func (g *gatekeeper) refuse(conn net.Conn, reason error) {
	defer conn.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.minute) >= time.Minute {
		if g.refused > refusalsLogged {
			g.logger.Warn("more clients were refused", "count", g.refused-refusalsLogged)
		}
		g.minute, g.refused = now, 0
	}
	if g.refused++; g.refused > refusalsLogged {
		return
	}
	level, what := slog.LevelWarn, "a client was refused"
	if errors.Is(reason, io.EOF) || errors.Is(reason, unix.ECONNRESET) { // A backend whose time was over, most likely.
		level, what = slog.LevelInfo, "a client left in its handshake"
	}
	g.logger.Log(context.Background(), level, what, "remote", conn.RemoteAddr().String(), "reason", reason.Error())
}
