package host

import (
	"context"

	"github.com/sockerless/sockerless/agent/host/ociruntime"
)

// probe is the search for an OCI runtime, started with the process; calls that
// need a runtime wait for it.
type probe struct {
	done   chan struct{}
	result ociruntime.Probed
	err    error
}

func startProbe(ctx context.Context, search func(context.Context) (ociruntime.Probed, error)) *probe {
	p := &probe{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.result, p.err = search(ctx)
	}()
	return p
}

func (p *probe) wait(ctx context.Context) (ociruntime.Probed, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		return ociruntime.Probed{}, context.Cause(ctx)
	}
}

func (p *probe) runtime(ctx context.Context) (ociruntime.Runtime, error) {
	found, err := p.wait(ctx)
	return found.Runtime, err
}
