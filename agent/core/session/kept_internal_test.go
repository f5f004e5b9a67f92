package session

import (
	"errors"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestAnUnsavedStateIsReportedAndSavedLater(t *testing.T) {
	pause := persistRetry
	persistRetry = time.Millisecond
	t.Cleanup(func() { persistRetry = pause })
	attempts := make(chan *agentv1.ContainerState)
	answers := make(chan error)
	c := New(MainProcess{}, Options{Persist: func(state *agentv1.ContainerState) error {
		attempts <- state
		return <-answers
	}})
	watcher := c.Watch()
	defer watcher.Close()
	go c.EndBeforeStart(ExitStatus{Code: 3})
	for range 3 {
		if state := <-attempts; state.Exit.GetCode() != 3 {
			t.Fatal(state)
		}
		answers <- errors.New("no space left on device")
	}
	for told := false; !told; {
		event, err := watcher.Next(t.Context())
		assert.NilError(t, err)
		told = event.GetExited().GetCode() == 3
	}
	kept := make(chan error)
	go func() { kept <- c.WaitKept(t.Context()) }()
	if state := <-attempts; state.Exit.GetCode() != 3 {
		t.Fatal(state)
	}
	answers <- nil
	assert.NilError(t, <-kept)
}
