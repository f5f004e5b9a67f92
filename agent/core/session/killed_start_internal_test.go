package session

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// dyingRuntime's main process is killed during its start.
type dyingRuntime struct{ container *Sessions }

func (r *dyingRuntime) Launch(context.Context, *agentv1.StartRequest) (Process, Stdio, error) {
	r.container.endRun(r.container.run, ExitStatus{Code: 137, FinishedAt: time.Now()})
	return nil, Stdio{}, &StartError{ExitCode: 128, Message: "the process is gone"}
}

func (*dyingRuntime) Exec(context.Context, *agentv1.ProcessSpec, Streams) (Process, Stdio, error) {
	return nil, Stdio{}, ErrNotRunning
}
func (*dyingRuntime) SignalAll(context.Context, unix.Signal) error { return nil }
func (*dyingRuntime) Pause(context.Context) error                  { return nil }
func (*dyingRuntime) Resume(context.Context) error                 { return nil }

func TestAStartIsAnsweredWhoseProcessIsKilledMeanwhile(t *testing.T) {
	dying := &dyingRuntime{}
	c := New(MainProcess{}, Options{Runtime: dying})
	dying.container = c
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	response, err := c.Start(ctx, &agentv1.StartRequest{Generation: 1})
	if err != nil || response.GetFailure().GetExitCode() != 128 {
		t.Fatalf("the start answered %v, %v", response, err)
	}
}

// anewRuntime starts another process than the one that waited for the start.
type anewRuntime struct{ dyingRuntime }

func (anewRuntime) Launch(context.Context, *agentv1.StartRequest) (Process, Stdio, error) {
	return endedProcess{}, Stdio{}, nil
}

// endedProcess has ended with 7.
type endedProcess struct{}

func (endedProcess) PID() int                 { return 4242 }
func (endedProcess) Signal(unix.Signal) error { return nil }
func (endedProcess) Status() ExitStatus       { return ExitStatus{Code: 7} }
func (endedProcess) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func TestTheEndOfAStartedRunIsItsOwnThoughWhatWaitedForTheStartDiedJustBefore(t *testing.T) {
	for round := range 50_000 {
		c := New(MainProcess{}, Options{Runtime: &anewRuntime{}})
		told := make(chan struct{})
		var ready atomic.Bool
		go func() {
			defer close(told)
			ready.Store(true)
			c.EndBeforeStart(ExitStatus{Code: 137})
		}()
		for !ready.Load() {
			runtime.Gosched()
		}
		for pause := round % 500; pause > 0; pause-- { // at any moment of it
			ready.Load()
		}
		response, err := c.Start(t.Context(), &agentv1.StartRequest{Generation: 1})
		assert.NilError(t, err)
		assert.NilError(t, c.WaitEnded(t.Context()))
		<-told
		want := int32(7)
		if response.GetStarted() == nil {
			want = 137
		}
		if got := c.State().GetExit().GetCode(); got != want {
			t.Fatalf("%v: the run ended with %d", response, got)
		}
	}
}
