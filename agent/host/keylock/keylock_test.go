package keylock

import (
	"context"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestOneHolderPerKey(t *testing.T) {
	var locks Locks
	var wait sync.WaitGroup
	counter := 0
	for range 50 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			unlock, err := locks.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			counter++
			unlock()
		}()
	}
	wait.Wait()
	if counter != 50 || len(locks.held) != 0 {
		t.Errorf("counter %d, %d locks kept", counter, len(locks.held))
	}
}

func TestOtherKeysAreFreeAndWaitersGiveUp(t *testing.T) {
	var locks Locks
	unlock, _ := locks.Lock(t.Context(), "a")
	other, err := locks.Lock(t.Context(), "b")
	assert.NilError(t, err)
	other()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = locks.Lock(ctx, "a")
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	unlock()
	assert.Check(t, is.Len(locks.held, 0), "a lock was kept")
}
