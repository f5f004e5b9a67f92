package disk

import (
	"context"
	"sync"
)

// mostWalks bounds the trees that are measured at a time, for all callers together.
const mostWalks = 8

// Meter measures trees for many callers. Those who ask for the same tree share one
// measurement, which ends when the last of them has left. On a file system that does
// not answer it cannot: until it has ended, no other of that tree begins.
type Meter struct {
	places chan struct{}

	mu    sync.Mutex
	going map[string]*measurement
}

// measurement is one that goes on. Its result is read after done.
type measurement struct {
	callers int // guarded by Meter.mu; without any, it is about to end
	end     context.CancelFunc
	done    chan struct{}
	size    uint64
	err     error
}

// NewMeter returns a meter that measures nothing yet.
func NewMeter() *Meter {
	return &Meter{places: make(chan struct{}, mostWalks), going: map[string]*measurement{}}
}

// Measure returns the size of the tree with a name, as measured by measure, which is
// called only if nobody's measurement of that tree goes on.
func (m *Meter) Measure(ctx context.Context, name string, measure func(context.Context) (uint64, error)) (uint64, error) {
	for {
		asked, isShared := m.join(name, measure)
		size, err := asked.await(ctx)
		if isShared {
			m.leave(asked)
			return size, err
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
}

func (asked *measurement) await(ctx context.Context) (uint64, error) {
	select {
	case <-asked.done:
		return asked.size, asked.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// join joins the measurement of a tree. One that all callers have left is about to end,
// and is not shared.
func (m *Meter) join(name string, measure func(context.Context) (uint64, error)) (asked *measurement, isShared bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked, ok := m.going[name]
	if ok && asked.callers == 0 {
		return asked, false
	}
	if !ok {
		ctx, end := context.WithCancel(context.Background())
		asked = &measurement{end: end, done: make(chan struct{})}
		m.going[name] = asked
		go m.run(ctx, name, asked, measure)
	}
	asked.callers++
	return asked, true
}

func (m *Meter) leave(asked *measurement) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if asked.callers--; asked.callers == 0 {
		asked.end()
	}
}

// run measures as soon as there is a place.
func (m *Meter) run(ctx context.Context, name string, asked *measurement, measure func(context.Context) (uint64, error)) {
	select {
	case m.places <- struct{}{}:
		asked.size, asked.err = measure(ctx)
		<-m.places
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.going, name) // later callers want what is written by then
	close(asked.done)
}
