package containerinit

import (
	"container/list"
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

	"github.com/sockerless/sockerless/agent/core/accepting"
	"github.com/sockerless/sockerless/agent/core/server"
)

const (
	// maxHandshakes bounds the connections that are not authenticated yet.
	maxHandshakes = 64
	// handshakeTimeout bounds the handshake of each.
	handshakeTimeout = 5 * time.Second
	// refusalsLogged is how many refusals a minute are logged individually:
	// neighbours can reach the port, and log lines cost money in some clouds.
	refusalsLogged = 10
	// maxConnections bounds the admitted connections of one partner or peer, as a
	// relay bounds a peer's, and maxAllConnections those of all. Each connection to
	// a port of the container has one.
	maxConnections    = 128
	maxAllConnections = 512
	// maxWide bounds those of each that may have wideCalls at once, which take
	// memory until the client reads their answers. An honest one follows the
	// listeners on its first, beside its tunnels to UDP; the others have narrowCalls.
	maxWide     = 8
	wideCalls   = 100
	narrowCalls = 4
)

// admission says who is admitted at a listener.
type admission struct {
	tls        *tls.Config
	timeout    time.Duration // of each handshake
	roleOf     func(tls.ConnectionState) role
	neighbours *shares // connections of partners and peers, at all listeners
	wide       *shares // those with many calls
}

// gatekeeper is a listener that returns only connections of admitted clients with
// control. Those of partners and peers come from its neighbourListeners.
type gatekeeper struct {
	net.Listener
	admission
	logger *slog.Logger

	controlling chan net.Conn
	neighbourly chan net.Conn // with wideCalls
	narrow      chan net.Conn
	closing     context.Context
	close       context.CancelCauseFunc
	pending     sync.WaitGroup

	mu         sync.Mutex
	handshakes list.List // a context.CancelCauseFunc each, the oldest first
	minute     time.Time
	refused    int
}

func newGatekeeper(listener net.Listener, admitted admission, logger *slog.Logger) *gatekeeper {
	g := &gatekeeper{
		Listener:    listener,
		admission:   admitted,
		logger:      logger,
		controlling: make(chan net.Conn),
		neighbourly: make(chan net.Conn),
		narrow:      make(chan net.Conn),
	}
	g.closing, g.close = context.WithCancelCause(context.Background())
	go g.run()
	return g
}

// Accept waits for the next connection of an admitted client with control.
func (g *gatekeeper) Accept() (net.Conn, error) { return g.next(g.controlling) }

func (g *gatekeeper) next(admitted <-chan net.Conn) (net.Conn, error) {
	select {
	case conn := <-admitted:
		return conn, nil
	case <-g.closing.Done():
		return nil, context.Cause(g.closing)
	}
}

// Close closes the listener and cancels pending handshakes.
func (g *gatekeeper) Close() error {
	g.close(net.ErrClosed)
	err := g.Listener.Close()
	g.pending.Wait()
	return err
}

func (g *gatekeeper) run() {
	for {
		conn, err := accepting.Patient(g.closing, g.Listener.Accept)
		if g.closing.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			g.logger.Error("accept a connection", "error", err)
			continue
		}
		ctx, end := g.begin()
		g.pending.Add(1)
		go func() {
			defer g.pending.Done()
			defer end()
			g.handshake(ctx, conn)
		}()
	}
}

// begin returns a handshake's context and a function that ends it. If there are
// too many, the oldest is cancelled: a legitimate client completes its own within
// a moment.
func (g *gatekeeper) begin() (ctx context.Context, end func()) {
	ctx, giveWay := context.WithCancelCause(g.closing)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.handshakes.Len() >= maxHandshakes {
		oldest := g.handshakes.Remove(g.handshakes.Front()).(context.CancelCauseFunc)
		oldest(fmt.Errorf("%d younger connections are in their handshake", maxHandshakes))
	}
	place := g.handshakes.PushBack(giveWay)
	return ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.handshakes.Remove(place) // unless it was cancelled
		giveWay(nil)
	}
}

func (g *gatekeeper) handshake(ctx context.Context, conn net.Conn) {
	limited, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	secure := tls.Server(conn, g.tls)
	if err := secure.HandshakeContext(limited); err != nil {
		if g.closing.Err() != nil {
			conn.Close() // the agent is leaving, not refusing
			return
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		g.refuse(conn, err)
		return
	}
	admitted, to, err := g.admit(secure)
	if err != nil {
		g.refuse(conn, err)
		return
	}
	select {
	case to <- admitted:
	case <-g.closing.Done():
		conn.Close() // without TLS's farewell
		admitted.release()
	}
}

var errTooManyConnections = errors.New("other containers have as many connections to this one as they may")

// admit returns a client's connection, and who accepts it.
func (g *gatekeeper) admit(secure *tls.Conn) (*admittedConn, chan<- net.Conn, error) {
	state := secure.ConnectionState()
	if g.roleOf(state) == controls {
		return &admittedConn{Conn: server.HoldCredit(secure), secure: secure, release: func() {}}, g.controlling, nil
	}
	key := keyOf(state)
	if !g.admission.neighbours.take(key) {
		return nil, nil, errTooManyConnections
	}
	isWide, to := g.wide.take(key), g.narrow
	if isWide {
		to = g.neighbourly
	}
	release := sync.OnceFunc(func() {
		if isWide {
			g.wide.give(key)
		}
		g.admission.neighbours.give(key)
	})
	return &admittedConn{Conn: server.Pace(secure), secure: secure, release: release}, to, nil
}

// neighbourListener returns connections of a gatekeeper's partners and peers. It
// ends with the gatekeeper.
type neighbourListener struct {
	*gatekeeper
	admitted <-chan net.Conn
}

// Accept waits for the next connection of an admitted partner or peer.
func (n neighbourListener) Accept() (net.Conn, error) { return n.next(n.admitted) }

// Close does nothing.
func (n neighbourListener) Close() error { return nil }

// refuse logs the reason before it closes the connection: once a client sees the
// end, the log has the reason.
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
	if errors.Is(reason, io.EOF) || errors.Is(reason, unix.ECONNRESET) { // probably a backend whose deadline passed
		level, what = slog.LevelInfo, "a client left in its handshake"
	}
	g.logger.Log(context.Background(), level, what, "remote", conn.RemoteAddr().String(), "reason", reason.Error())
}
