package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// defaultAwaitAttach is how long a start waits for the sessions of its
// reservations.
const defaultAwaitAttach = 10 * time.Second

// recordTimeout is how long a run's end waits for a log with a backlog (moby's
// loggerCloseTimeout).
const recordTimeout = 10 * time.Second

// callerKey is the context key of the caller of a Start that continues without it.
type callerKey struct{}

// Outliving returns a context for a Start whose answer is awaited after its caller,
// whose context is ctx, has gone.
func Outliving(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), callerKey{}, ctx)
}

func callerOf(ctx context.Context) context.Context {
	if caller, ok := ctx.Value(callerKey{}).(context.Context); ok {
		return caller
	}
	return ctx
}

// Start starts the main process once the attachments that it names are open, or
// their time is over and a caller still waits. It continues even if ctx ends; a
// second call for the same generation waits for the first one's answer.
func (c *Sessions) Start(ctx context.Context, request *agentv1.StartRequest) (*agentv1.StartResponse, error) {
	c.mu.Lock()
	r := c.run
	if r.over() && r.begun && request.Generation > r.generation && c.options.Restartable {
		r = c.beginNextRun()
	}
	switch {
	case r.begun && r.generation != request.Generation, !r.begun && request.Generation <= r.after:
		c.mu.Unlock()
		return nil, connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("generation %d was started, not %d", max(r.generation, r.after), request.Generation))
	case !r.begun && r.over():
		c.refuseStart(r, request.Generation)
	case !r.begun:
		c.begin(r, request.Generation)
		if request.Process != nil {
			r.tty, r.once = request.Process.Tty, request.StdinOnce
		}
		go c.startRun(context.WithoutCancel(ctx), r, request)
	}
	if !r.launching {
		r.callers = append(r.callers, callerOf(ctx))
		c.changed.Notify()
	}
	c.mu.Unlock()
	if err := c.changed.Wait(ctx, &c.mu, func() bool { return r.response != nil }); err != nil {
		return nil, err
	}
	return r.response, nil
}

// begin marks a run as started. c.mu is held.
func (c *Sessions) begin(r *run, generation uint64) {
	r.begun, r.generation = true, generation
	c.hub.generation = generation
}

// nextRun returns the run for attachments that wait for the next start; until
// then the container keeps the run that is over. c.mu is held.
func (c *Sessions) nextRun() *run {
	if c.next == nil {
		c.next = c.newRun(MainProcess{TTY: c.run.tty, StdinOnce: c.run.once})
		c.next.after = max(c.run.generation, c.run.after)
	}
	return c.next
}

// beginNextRun replaces the run that is over. c.mu is held.
func (c *Sessions) beginNextRun() *run {
	c.run, c.next = c.nextRun(), nil
	c.health = nil
	if c.options.Log != nil {
		c.options.Log.BeginRun()
	}
	return c.run
}

// refuseStart fails a start whose process ended before it, or is known not to
// be executable. c.mu is held.
func (c *Sessions) refuseStart(r *run, generation uint64) {
	c.begin(r, generation)
	failure := r.failure
	if failure == nil {
		failure = &agentv1.StartFailure{ExitCode: 128, Message: fmt.Sprintf(
			"the container's process ended before it was started (exit code %d)", r.exit.Code)}
	}
	r.response = &agentv1.StartResponse{Result: &agentv1.StartResponse_Failure{Failure: failure}}
	c.changed.Notify()
}

func (c *Sessions) startRun(ctx context.Context, r *run, request *agentv1.StartRequest) {
	c.awaitAttachments(r, request)
	if !c.beginLaunch(r, request.AwaitAttachIds) {
		return
	}
	process, stdio, err := c.options.Runtime.Launch(ctx, request)
	if err != nil {
		failure := &StartError{ExitCode: 128, Message: err.Error()}
		errors.As(err, &failure)
		c.FailStart(failure)
		return
	}
	started := startedProcess(process.PID()) // no output of this run is recorded with an earlier time
	r.outputs.connect(stdio)
	r.input.connect(stdio)

	c.mu.Lock()
	r.process, r.terminal = process, stdio.Terminal
	r.response = &agentv1.StartResponse{Result: &agentv1.StartResponse_Started{Started: started}}
	c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_Started{Started: r.response.GetStarted()}})
	c.changed.Notify()
	c.mu.Unlock()

	stopHealth := c.watchHealth(request.HealthCheck, r.response.GetStarted().StartedAt.AsTime())
	<-process.Done()
	c.mu.Lock()
	r.dead = true
	c.mu.Unlock()
	stopHealth()
	r.outputs.drain()
	r.input.close()
	c.endRun(r, process.Status())
}

// beginLaunch reports whether the process is to be launched: not after the start
// has failed. From then on it cannot be withdrawn, and awaited attachments that have
// not come are refused.
func (c *Sessions) beginLaunch(r *run, awaited []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.launching, r.callers = r.response == nil, nil
	if r.launching {
		r.missed = slices.DeleteFunc(slices.Clone(awaited), func(id string) bool { return r.attached[id] })
	}
	return r.launching
}

// WithdrawStart fails the start of a generation while that waits for its
// attachments, and reports whether it did: a process that is being launched runs.
func (c *Sessions) WithdrawStart(generation uint64, failure *StartError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.run
	if !r.begun || r.generation != generation || r.launching || r.over() {
		return false
	}
	c.failStart(failure)
	return true
}

// awaitAttachments waits, for at most the request's time, until every reservation
// has had its session, even if that has ended. If some have not, it waits further for
// the sessions or for a caller, whichever is first. Without a caller the backend that
// requested the start is gone, and its client got an error: the next backend repeats
// the request or withdraws it.
func (c *Sessions) awaitAttachments(r *run, request *agentv1.StartRequest) {
	timeout := time.Duration(request.AwaitAttachTimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = defaultAwaitAttach
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	missing := ""
	isComplete := func() bool {
		at := slices.IndexFunc(request.AwaitAttachIds, func(id string) bool { return !r.attached[id] })
		if at == -1 || r.over() {
			return true
		}
		missing = request.AwaitAttachIds[at]
		return false
	}
	if c.changed.Wait(ctx, &c.mu, isComplete) == nil {
		return
	}
	isTold := false
	_ = c.changed.Wait(context.Background(), &c.mu, func() bool {
		if isComplete() {
			return true
		}
		if slices.ContainsFunc(r.callers, func(caller context.Context) bool { return caller.Err() == nil }) {
			c.options.Logger.Warn("an attachment did not come: starting without", "attach_id", missing)
			return true
		}
		if !isTold {
			c.options.Logger.Warn("neither an attachment nor a caller is there: the start waits", "attach_id", missing)
			isTold = true
		}
		return false
	})
}

// FailStart records that the main process cannot run, tells watchers and ends the
// sessions. Start returns the failure, now or later.
func (c *Sessions) FailStart(failure *StartError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failStart(failure)
}

// failStart is FailStart with c.mu held.
func (c *Sessions) failStart(failure *StartError) {
	r := c.run
	if r.over() {
		if r.begun && r.response == nil { // it was killed while it was being started
			c.refuseStart(r, r.generation)
		}
		return
	}
	r.failure = &agentv1.StartFailure{ExitCode: int32(failure.ExitCode), Message: failure.Message}
	if r.begun {
		r.response = &agentv1.StartResponse{Result: &agentv1.StartResponse_Failure{Failure: r.failure}}
	}
	state := c.state()
	c.free()
	c.persist(state)
	c.finishSessions(r, failed(agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED, failure.Message, failure.ExitCode), state)
}

// RefuseNext ends the attachments waiting for a next start, which will not come.
func (c *Sessions) RefuseNext(failure *StartError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		return
	}
	for s := range c.next.sessions {
		s.queue.finish(failed(agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED, failure.Message, failure.ExitCode))
	}
	c.next = nil
}

// EndBeforeStart records that the main process was killed before Start was
// called. Later it does nothing: Start then notices, and may have created another
// process, whose end is the run's.
func (c *Sessions) EndBeforeStart(status ExitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.run.begun { // nor is there an exec, or output
		c.recordEnd(c.run, status)
	}
}

// endRun records the main process's end before anybody is told.
func (c *Sessions) endRun(r *run, status ExitStatus) {
	c.awaitExecEnds()
	c.awaitRecord()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recordEnd(r, status)
}

// recordEnd is called with c.mu held.
func (c *Sessions) recordEnd(r *run, status ExitStatus) {
	if r.over() {
		return
	}
	r.exit = &status
	c.paused = false
	c.free()
	c.persist(c.state())
	c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_Exited{Exited: status.Proto()}})
	c.finishSessions(r, exited(status), nil)
}

// awaitRecord waits, for at most recordTimeout, until the log has written its
// backlog.
func (c *Sessions) awaitRecord() {
	if c.options.Log == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if _, err := c.options.Log.End().Wait(ctx); err != nil {
		c.options.Logger.Warn("the log is slow: the end of the container is told before all its output is recorded")
	}
}

// finishSessions sends the run's attachments their last message and ends the
// log's followers. state, if any, goes to the watchers. c.mu is held.
func (c *Sessions) finishSessions(r *run, last *agentv1.SessionResponse, state *agentv1.ContainerState) {
	if state != nil {
		c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_State{State: state}})
	}
	for s := range r.sessions {
		s.queue.finish(last)
	}
	clear(r.sessions)
	if c.options.Log != nil {
		c.options.Log.EndRun()
	}
	c.changed.Notify()
}
