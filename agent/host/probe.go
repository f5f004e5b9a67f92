package host

import (
	"context"

	"github.com/sockerless/sockerless/agent/host/ociruntime"
)

// probe is the search for an OCI runtime, started with the process; calls that
// need a runtime wait for it.
type probe struct {
	cancel context.CancelFunc
	done   chan struct{}
	result ociruntime.Probed
	err    error
}

func startProbe(ctx context.Context, search func(context.Context) (ociruntime.Probed, error)) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.result, p.err = search(ctx)
	}()
	return p
}

// end ends the search, and waits until nothing of it is left.
func (p *probe) end() {
	p.cancel()
	<-p.done
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
