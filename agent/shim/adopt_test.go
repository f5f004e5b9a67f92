package shim_test

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestAFailedLaunchWaitsForItsStart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	c := launch(t, launchOptions{args: []string{"nosuch"}})
	if c.ready.PID != 0 || c.recorded().Failure.GetExitCode() != 127 {
		t.Fatalf("ready %+v, recorded %v", c.ready, c.recorded())
	}
	select {
	case <-c.dead:
		t.Fatal("the shim left before its failure was told")
	case <-time.After(7 * time.Second): // longer than it stays unwatched
	}
	assert.Assert(t, c.run().GetFailure().GetExitCode() == 127, "the start does not answer the failure")
	<-c.dead
}
