package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

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
	calls   int // under way, but for the others
	outputs int // that give what was recorded, and need nothing else: logs and sessions
	open    int // that have no end of their own: watches, tunnels, and partners' looks at listeners
	closed  bool
	changed change.Signal
	refuse  *connect.ErrorWriter

	taken atomic.Uint64 // messages of outputs that went over the call
}

// gateKey leads from a call for output to its gate.
type gateKey struct{}

// taken notes that the caller has taken a message of output.
func taken(call context.Context) {
	if g, _ := call.Value(gateKey{}).(*Gate); g != nil {
		g.taken.Add(1)
	}
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
		case agentv1connect.AgentServiceLogsProcedure, agentv1connect.AgentServiceSessionProcedure:
			under = &g.outputs
			r = r.WithContext(context.WithValue(r.Context(), gateKey{}, g))
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
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls+g.outputs == 0 })
}

// WaitReleased waits until no call needs the container any more: what is left gives
// output that was recorded, or has no end of its own.
func (g *Gate) WaitReleased(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls == 0 })
}

// WaitUnwatched is WaitReleased, with those that have no end of their own over, too.
func (g *Gate) WaitUnwatched(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls+g.open == 0 })
}

// Taken counts the messages of output that callers have taken. Those of clients
// whose connections are handed on are not among them.
func (g *Gate) Taken() uint64 { return g.taken.Load() }

// Close refuses new calls from now on; those under way go on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
