package server

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestBuildsThatExceedTheMemoryFailThoughTheyRunOn(t *testing.T) {
	var inUse atomic.Int64
	m := newMemory(0)
	m.limit, m.inUse = 100, inUse.Load
	var serves atomic.Bool
	serves.Store(true)
	m.stopServing = func() {
		time.Sleep(10 * time.Millisecond)
		serves.Store(false)
	}
	goOn := make(chan struct{})
	defer close(goOn)
	told := make(chan error, 2)
	began := make(chan struct{}, 2)
	start := func(build func(context.Context)) {
		_, err := withinMemory(context.Background(), m, func(ctx context.Context) (int, error) {
			began <- struct{}{}
			build(ctx)
			return 0, ctx.Err()
		})
		told <- err
	}
	go start(func(context.Context) { <-goOn }) // as one that doubles a string
	go start(func(ctx context.Context) { <-ctx.Done() })
	<-began
	<-began
	inUse.Store(101)
	for range 2 {
		err := <-told
		assert.Check(t, !serves.Load(), "a build is told while the builder still takes others")
		if limit := new(tooMuchMemory); !errors.As(err, &limit) || !strings.Contains(err.Error(), "more than 100 bytes of memory, the limit of builder.memory") {
			t.Errorf("answered %v", err)
		}
		if code := status.Code(err); code != codes.ResourceExhausted {
			t.Errorf("answered %v", code)
		}
	}
	assert.Check(t, m.exceeded.Err() != nil, "the builder goes on")
}

func TestBuildsWithinTheMemoryGoOn(t *testing.T) {
	m := newMemory(0)
	looked := make(chan struct{})
	m.limit, m.inUse = 100, func() int64 { looked <- struct{}{}; return 100 }
	answer, err := withinMemory(context.Background(), m, func(context.Context) (int, error) {
		<-looked
		<-looked
		return 1, nil
	})
	if answer != 1 || err != nil || m.exceeded.Err() != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
}

func TestMemoryIsLookedAtOnlyWhileSomethingIsBuilt(t *testing.T) {
	m := newMemory(0)
	m.limit, m.inUse = 100, func() int64 { return 0 }
	build := errors.New("it fails")
	_, err := withinMemory(context.Background(), m, func(context.Context) (int, error) { return 0, build })
	assert.Check(t, is.ErrorIs(err, build))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.building != 0 || m.stop != nil {
		t.Error("it is looked at still")
	}
}

func TestAPanicOfABuildIsItsErrorAlone(t *testing.T) {
	m := newMemory(0)
	var stages []int
	_, err := withinMemory(context.Background(), m, func(context.Context) (int, error) { return stages[len(stages)-1], nil })
	assert.Check(t, is.ErrorContains(err, "index out of range [-1]"))
	assert.Check(t, m.building == 0, "it is under way still")
}
