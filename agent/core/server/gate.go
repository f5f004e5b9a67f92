package server

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

var errLeaving = connect.NewError(connect.CodeUnavailable, errors.New("the container's agent is leaving: ask the backend again"))

// Gate stands before a handler. It knows the calls under way, so that an agent
// can leave without cutting one, and refuses new ones once it is closed.
type Gate struct {
	mu      sync.Mutex
	calls   int // under way, watches not counted
	closed  bool
	changed chan struct{}
	refuse  *connect.ErrorWriter
}

// NewGate makes an open gate.
func NewGate() *Gate {
	return &Gate{changed: make(chan struct{}), refuse: connect.NewErrorWriter()}
}

// Wrap puts the gate before next.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := r.URL.Path != agentv1connect.AgentServiceWatchProcedure
		if !g.enter(counted) {
			// A client that cannot be told sees the stream end without success.
			_ = g.refuse.Write(w, r, errLeaving)
			return
		}
		defer g.leave(counted)
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) enter(counted bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if counted {
		g.calls++
	}
	return true
}

func (g *Gate) leave(counted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if counted {
		g.calls--
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// WaitIdle waits until no call but watches is under way.
func (g *Gate) WaitIdle(ctx context.Context) error {
	for {
		g.mu.Lock()
		calls, changed := g.calls, g.changed
		g.mu.Unlock()
		if calls == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close refuses new calls from now on; those under way go on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
