package change

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
)

func TestAWaitSeesEveryChange(t *testing.T) {
	var mu sync.Mutex
	var changed Signal
	count := 0
	var waiters sync.WaitGroup
	for want := range 10 {
		waiters.Add(1)
		go func() {
			defer waiters.Done()
			assert.Check(t, changed.Wait(t.Context(), &mu, func() bool { return count > want }))
		}()
	}
	for range 10 {
		mu.Lock()
		count++
		changed.Notify()
		mu.Unlock()
	}
	waiters.Wait()
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	var mu sync.Mutex
	var changed Signal
	left := errors.New("left")
	ctx, leave := context.WithCancelCause(t.Context())
	leave(left)
	if err := changed.Wait(ctx, &mu, func() bool { return false }); !errors.Is(err, left) {
		t.Fatalf("the wait ended with %v", err)
	}
	assert.NilError(t, changed.Wait(ctx, &mu, func() bool { return true }), "what holds was waited for")
}
