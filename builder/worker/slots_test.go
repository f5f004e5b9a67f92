package worker

import (
	"context"
	"errors"
	"testing"

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
