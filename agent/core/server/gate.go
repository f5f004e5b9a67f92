package server

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// ErrLeaving answers what an agent cannot do any more since its container, or it
// itself, has ended (UNAVAILABLE).
var ErrLeaving = connect.NewError(connect.CodeUnavailable, errors.New("the container's agent is leaving: ask the backend again"))

// Gate stands before a handler. It knows the calls under way, so that an agent
// can leave without cutting one, and refuses new ones once it is closed.
type Gate struct {
	mu      sync.Mutex
	calls   int // under way, but for those that have no end of their own
	open    int // those: watches, tunnels, and partners' looks at listeners
	closed  bool
	changed change.Signal
	refuse  *connect.ErrorWriter
}

// NewGate makes an open gate.
func NewGate() *Gate {
	return &Gate{refuse: connect.NewErrorWriter()}
}

// Wrap puts the gate before next.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under := &g.calls
		switch r.URL.Path {
		case agentv1connect.AgentServiceWatchProcedure, agentv1connect.AgentServiceTunnelProcedure,
			agentv1connect.AgentServiceListenersProcedure:
			under = &g.open
		}
		if !g.enter(under) {
			// A client that cannot be told sees the stream end without success.
			_ = g.refuse.Write(w, r, ErrLeaving)
			return
		}
		defer g.leave(under)
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) enter(count *int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	*count++
	return true
}

func (g *Gate) leave(count *int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*count--
	g.changed.Notify()
}

// WaitIdle waits until no call is under way but those without an end of their own.
func (g *Gate) WaitIdle(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls == 0 })
}

// WaitEmpty waits until no call at all is under way.
func (g *Gate) WaitEmpty(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls+g.open == 0 })
}

// Close refuses new calls from now on; those under way go on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
