package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
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
	if _, err := locks.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock()
	if len(locks.held) != 0 {
		t.Error("a lock was kept")
	}
}
