package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// ErrLeaving fails calls that need the container, or the agent, after its end
// (UNAVAILABLE).
var ErrLeaving = connect.NewError(connect.CodeUnavailable, errors.New("the container's agent is leaving: ask the backend again"))

// Gate wraps a handler. It tracks pending calls, so that an agent can leave
// without cutting one, and refuses new ones once it is closed.
type Gate struct {
	mu       sync.Mutex
	underWay map[*gatedCall]struct{}
	calls    int // pending calls, except the following
	outputs  int // calls that only send output
	open     int // calls without an end of their own: Watch, Tunnel and Listeners
	closed   bool
	changed  change.Signal
	refuse   *connect.ErrorWriter
	sending  []string      // procedures whose calls are outputs
	patience time.Duration // after which outputs give way to calls without room; 0: never
}

// NewGate returns an open gate. Its outputs need nothing but what they have open:
// logs and sessions send what is recorded, archives hold the files that they read.
func NewGate() *Gate {
	return &Gate{
		underWay: make(map[*gatedCall]struct{}), refuse: connect.NewErrorWriter(),
		sending: []string{
			agentv1connect.AgentServiceLogsProcedure, agentv1connect.AgentServiceSessionProcedure,
			agentv1connect.AgentServiceArchiveGetProcedure, agentv1connect.AgentServiceExportProcedure,
		},
	}
}

// NewGateOfFiles is NewGate for calls that read files, which are its outputs. When one
// is refused for lack of room, those are cut that have made no progress for patience.
func NewGateOfFiles(patience time.Duration) *Gate {
	g := NewGate()
	g.patience = patience
	g.sending = []string{
		agentv1connect.AgentServiceArchiveGetProcedure, agentv1connect.AgentServiceExportProcedure,
		agentv1connect.AgentServiceChangesProcedure,
	}
	return g
}

type gateKey struct{}

// giveWay is called with the error of a call: if there was no room for it, outputs
// that are not read give way to the next one.
func giveWay(ctx context.Context, err error) {
	gate, gated := ctx.Value(gateKey{}).(*Gate)
	if gated && gate.patience > 0 && connect.CodeOf(err) == connect.CodeResourceExhausted {
		gate.CutSlow(time.Now(), gate.patience)
	}
}

// Wrap puts the gate before next.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under := &g.calls
		switch r.URL.Path {
		case agentv1connect.AgentServiceWatchProcedure, agentv1connect.AgentServiceTunnelProcedure,
			agentv1connect.AgentServiceListenersProcedure:
			under = &g.open
		default:
			if slices.Contains(g.sending, r.URL.Path) {
				under = &g.outputs
			}
		}
		call := newGatedCall(w, r, under)
		defer call.cancel(nil)
		if !g.enter(call) {
			// A client that does not receive this sees the stream end without
			// success.
			_ = g.refuse.Write(w, r, ErrLeaving)
			return
		}
		defer g.leave(call)
		if under == &g.outputs {
			w = call
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(call.ctx, gateKey{}, g)))
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

// WaitIdle waits until only calls without an end of their own are pending.
func (g *Gate) WaitIdle(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls+g.outputs == 0 })
}

// WaitReleased waits until no call needs the container: the remaining ones are
// outputs, or have no end of their own.
func (g *Gate) WaitReleased(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls == 0 })
}

// WaitUnwatched waits like WaitReleased, and also for calls without an end of
// their own.
func (g *Gate) WaitUnwatched(ctx context.Context) error {
	return g.changed.Wait(ctx, &g.mu, func() bool { return g.calls+g.open == 0 })
}

// CutSlow cuts output calls without progress for limit, as seen by successive
// calls of CutSlow. It returns how many it cut.
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

// CutCalls cuts the calls that need the container, even after their client's
// connection was handed over.
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

// Close refuses new calls; pending ones continue.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
