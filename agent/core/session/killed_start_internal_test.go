package session

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// dyingRuntime's main process is killed while it is being started.
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
	runtime := &dyingRuntime{}
	c := New(MainProcess{}, Options{Runtime: runtime})
	runtime.container = c
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	response, err := c.Start(ctx, &agentv1.StartRequest{Generation: 1})
	if err != nil || response.GetFailure().GetExitCode() != 128 {
		t.Fatalf("the start answered %v, %v", response, err)
	}
}
