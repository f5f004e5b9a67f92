package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// ErrLeaving answers what an agent cannot do any more since its container, or it
// itself, has ended (UNAVAILABLE).
var ErrLeaving = connect.NewError(connect.CodeUnavailable, errors.New("the container's agent is leaving: ask the backend again"))

// Gate stands before a handler. It knows the calls under way, so that an agent
// can leave without cutting one, and refuses new ones once it is closed.
type Gate struct {
	mu       sync.Mutex
	underWay map[*gatedCall]struct{}
	calls    int // under way, but for the others
	outputs  int // that give what was recorded, and need nothing else: logs and sessions
	open     int // that have no end of their own: watches, tunnels, and partners' looks at listeners
	closed   bool
	changed  change.Signal
	refuse   *connect.ErrorWriter
}

// NewGate makes an open gate.
func NewGate() *Gate {
	return &Gate{underWay: make(map[*gatedCall]struct{}), refuse: connect.NewErrorWriter()}
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
		}
		call := newGatedCall(w, r, under)
		defer call.cancel(nil)
		if !g.enter(call) {
			// A client that cannot be told sees the stream end without success.
			_ = g.refuse.Write(w, r, ErrLeaving)
			return
		}
		defer g.leave(call)
		if under == &g.outputs {
			w = call
		}
		next.ServeHTTP(w, r.WithContext(call.ctx))
	})
}

func (g *Gate) enter(call *gatedCall) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.underWay[call] = struct{}{}
	*call.under++
	return true
}

func (g *Gate) leave(call *gatedCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.underWay, call)
	*call.under--
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

// CutSlow cuts the calls for output whose caller has taken nothing of it for a time,
// as far as was seen by calls of CutSlow. It answers how many.
func (g *Gate) CutSlow(now time.Time, limit time.Duration) (count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for call := range g.underWay {
		if call.under == &g.outputs && call.isSlow(now, limit) {
			call.cut()
			count++
		}
	}
	return count
}

// CutCalls cuts the calls that need the container, also where their client's
// connection was handed on.
func (g *Gate) CutCalls() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for call := range g.underWay {
		if call.under == &g.calls {
			call.cut()
			close(call.over)
		}
	}
}

// Close refuses new calls from now on; those under way go on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
