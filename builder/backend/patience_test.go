package backend

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
)

func TestPatienceEndsWithABackendThatAnswers(t *testing.T) {
	answered := connect.NewWireError(connect.CodeUnavailable, errors.New("no room"))
	cut := connect.NewError(connect.CodeUnavailable, errors.New("cut"))
	for _, each := range []struct {
		failure *connect.Error
		most    int
	}{
		{answered, 2},
		// Each long call may be answered by another process of the backend.
		{cut, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			err := patiently(t.Context(), func() error {
				calls++
				if calls == 10 {
					return nil
				}
				time.Sleep(time.Minute)
				return each.failure
			})
			if calls != each.most || (each.failure == answered && !errors.Is(err, answered)) {
				t.Errorf("%d calls: %v", calls, err)
			}
		})
	}
}
