package host

import (
	"context"
	"sync"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
)

// probe is the search for an OCI runtime, started with the process; calls that
// need a runtime wait for it. The next of them repeats one that has failed: the
// machine may have been out of memory or processes for a moment.
type probe struct {
	ctx    context.Context
	cancel context.CancelFunc
	search func(context.Context) (ociruntime.Probed, error)

	mu     sync.Mutex
	latest *search
}

// search is one search. Its result is set once it is done.
type search struct {
	done   chan struct{}
	result ociruntime.Probed
	err    error
}

func startProbe(ctx context.Context, search func(context.Context) (ociruntime.Probed, error)) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{ctx: ctx, cancel: cancel, search: search}
	p.latest = p.begin()
	return p
}

func (p *probe) begin() *search {
	s := &search{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.result, s.err = p.search(p.ctx)
	}()
	return s
}

// current is the search to wait for.
func (p *probe) current() *search {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change.IsClosed(p.latest.done) && p.latest.err != nil && p.ctx.Err() == nil {
		p.latest = p.begin()
	}
	return p.latest
}

// end ends the search, and waits until nothing of it is left.
func (p *probe) end() {
	p.cancel()
	<-p.current().done
}

func (p *probe) wait(ctx context.Context) (ociruntime.Probed, error) {
	s := p.current()
	select {
	case <-s.done:
		return s.result, s.err
	case <-ctx.Done():
		return ociruntime.Probed{}, context.Cause(ctx)
	}
}

func (p *probe) runtime(ctx context.Context) (ociruntime.Runtime, error) {
	found, err := p.wait(ctx)
	return found.Runtime, err
}
