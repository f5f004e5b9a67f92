package host

import (
	"context"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
)

// probe is the search for an OCI runtime, started with the process; calls that
// need a runtime wait for it. Later ones repeat one that has failed: the machine may
// have been out of memory or processes for a moment.
type probe struct {
	ctx    context.Context
	cancel context.CancelFunc
	search func(context.Context) (ociruntime.Probed, error)
	pause  time.Duration // how long a failure counts

	mu     sync.Mutex
	latest *attempt
}

// searchPause is how long a search that failed is not repeated: one of a runtime that
// does not answer takes many seconds.
const searchPause = 5 * time.Second

// attempt is one search. Its result is set once it is done.
type attempt struct {
	done   chan struct{}
	result ociruntime.Probed
	err    error
	ended  time.Time
}

func startProbe(ctx context.Context, search func(context.Context) (ociruntime.Probed, error)) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{ctx: ctx, cancel: cancel, search: search, pause: searchPause}
	p.latest = p.begin()
	return p
}

func (p *probe) begin() *attempt {
	a := &attempt{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.result, a.err = p.search(p.ctx)
		a.ended = time.Now()
	}()
	return a
}

// currentOrNext is the search to wait for.
func (p *probe) currentOrNext() *attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.latest; change.IsClosed(a.done) && a.err != nil && time.Since(a.ended) >= p.pause && p.ctx.Err() == nil {
		p.latest = p.begin()
	}
	return p.latest
}

// end ends the search, and waits until nothing of it is left.
func (p *probe) end() {
	p.cancel()
	<-p.currentOrNext().done
}

func (p *probe) wait(ctx context.Context) (ociruntime.Probed, error) {
	a := p.currentOrNext()
	select {
	case <-a.done:
		return a.result, a.err
	case <-ctx.Done():
		return ociruntime.Probed{}, context.Cause(ctx)
	}
}

func (p *probe) runtime(ctx context.Context) (ociruntime.Runtime, error) {
	found, err := p.wait(ctx)
	return found.Runtime, err
}
