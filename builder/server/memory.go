package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sockerless/sockerless/builder/worker"
)

// memoryPoll is how often the memory is checked during builds.
const memoryPoll = 20 * time.Millisecond

// memory limits builds together, since the use of each is unknown.
type memory struct {
	limit int64
	inUse func() int64
	// Called before the builds are told: who is told and builds again must not come back to this process.
	stopServing func()
	// Ends, with the builds' error, once they exceed the limit.
	exceeded context.Context
	exceed   context.CancelCauseFunc

	mu       sync.Mutex
	building int
	stop     chan struct{}
}

// newMemory limits this process's memory to limit bytes; 0: unlimited. The collector works harder near the limit.
func newMemory(limit int64) *memory {
	if limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	exceeded, exceed := context.WithCancelCause(context.Background())
	return &memory{limit: limit, inUse: goMemory, stopServing: func() {}, exceeded: exceeded, exceed: exceed}
}

// tooMuchMemory is the error of all builds running at that time.
type tooMuchMemory struct{ limit int64 }

func (e *tooMuchMemory) Error() string {
	return fmt.Sprintf("the builds under way need more than %d bytes of memory, the limit of builder.memory: all of them were ended", e.limit)
}

// GRPCStatus is the status for BuildKit's clients.
func (e *tooMuchMemory) GRPCStatus() *status.Status {
	return status.New(codes.ResourceExhausted, e.Error())
}

// withinMemory runs build with a context that ends when memory is exceeded. It does not wait for build then, because code
// that takes memory may not check its context.
func withinMemory[T any](ctx context.Context, m *memory, build func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.exceeded, func() { cancel(context.Cause(m.exceeded)) })
	m.begin()
	result, err := untilDone(m.exceeded, func() (T, error) {
		defer m.end()
		defer cancel(nil)
		defer stop()
		return build(ctx)
	})
	if err != nil && m.exceeded.Err() != nil {
		err = context.Cause(m.exceeded)
	}
	return result, err
}

// untilDone returns the outcome of run, or the cause of ctx's end, after which run may go on.
func untilDone[T any](ctx context.Context, run func() (T, error)) (T, error) {
	type outcome struct {
		result T
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		var end outcome
		defer func() { ended <- end }()
		defer worker.Recovered(&end.err)
		end.result, end.err = run()
	}()
	select {
	case end := <-ended:
		return end.result, end.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (m *memory) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.building++
	if m.building == 1 && m.limit > 0 {
		m.stop = make(chan struct{})
		go m.watch(m.stop)
	}
}

func (m *memory) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.building--
	if m.building == 0 && m.stop != nil {
		close(m.stop)
		m.stop = nil
	}
}

func (m *memory) watch(stop <-chan struct{}) {
	ticks := time.NewTicker(memoryPoll)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			if m.inUse() > m.limit {
				m.stopServing()
				m.exceed(&tooMuchMemory{m.limit})
				return
			}
		case <-stop:
			return
		}
	}
}

// goMemory is the quantity that debug.SetMemoryLimit limits.
func goMemory() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
