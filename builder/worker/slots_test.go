package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/session"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestSlotsAreASessionsOwn(t *testing.T) {
	all := &slots{size: 2}
	first, err := all.take(t.Context(), "one")
	must(t, err)
	second, err := all.take(t.Context(), "one")
	must(t, err)
	other, err := all.take(t.Context(), "two")
	must(t, err)
	given := make(chan func())
	go func() {
		third, err := all.take(context.Background(), "one")
		assert.Check(t, err)
		given <- third
	}()
	cause := errors.New("the build is cancelled")
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err = all.take(cancelled, "one")
	assert.Check(t, is.ErrorIs(err, cause))
	select {
	case <-given:
		t.Error("three have one of two slots")
	default:
	}
	first()
	third := <-given
	for _, leave := range []func(){second, third, other} {
		leave()
	}
	if len(all.of) != 0 {
		t.Errorf("left are %v", all.of)
	}
}

// sharedWork is a group that others join.
type sharedWork struct {
	of *atomic.Pointer[session.Group]
}

func (w sharedWork) SessionIterator() session.Iterator { return (*w.of.Load()).SessionIterator() }

func TestSharedWorkTakesASlotOfAnyOfItsSessions(t *testing.T) {
	for _, first := range []string{"of sleepers", ""} {
		all := &slots{size: 1}
		leave, err := all.take(t.Context(), first)
		must(t, err)
		defer leave()
		alone, joined := session.NewGroup(first), session.NewGroup("another", "of sleepers")
		work := sharedWork{&atomic.Pointer[session.Group]{}}
		work.of.Store(&alone)
		taken := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*sharedPoll)
		defer cancel()
		go func() {
			leave, err := all.takeOf(ctx, work)
			if err == nil {
				leave()
			}
			taken <- err
		}()
		for users := 0; users < 2; {
			all.mu.Lock()
			users = all.of[first].users
			all.mu.Unlock()
		}
		work.of.Store(&joined)
		assert.Check(t, <-taken, "%q", first)
		cause := errors.New("the build is cancelled")
		cancelled, cancelIt := context.WithCancelCause(t.Context())
		cancelIt(cause)
		_, err = all.takeOf(cancelled, alone)
		assert.Check(t, is.ErrorIs(err, cause))
	}
}

func TestSharedWorkLooksForAFreeSlotOfAllItsSessionsAtOnce(t *testing.T) {
	all := &slots{size: 1}
	var sessions []string
	for at := range 100 {
		name := fmt.Sprint("of sleepers ", at)
		leave, err := all.take(t.Context(), name)
		must(t, err)
		defer leave()
		sessions = append(sessions, name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*sharedPoll)
	defer cancel()
	leave, err := all.takeOf(ctx, session.NewGroup(append(sessions, "another")...))
	must(t, err)
	leave()
	assert.Check(t, is.Len(all.of, len(sessions)))
}
