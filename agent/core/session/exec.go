package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// endedExecsKept bounds the records of ended execs; the oldest is dropped.
	endedExecsKept = 1024
	// execEndGrace is how long the main process's end waits for execs that end
	// with it, to have them in the exit record.
	execEndGrace = time.Second
	// refusedExecCode is the exit code of an exec that was never opened.
	refusedExecCode = 255
	// execIDLimit bounds the IDs that the agent remembers for a client.
	execIDLimit = 256
)

// exec is one exec since its start; the record outlives its session.
type exec struct {
	process Process // nil while it is being started
	stdio   Stdio
	tty     bool
	pid     int
	exit    *ExitStatus
}

func (e *exec) endedMessage(id string) *agentv1.ExecEnded {
	return &agentv1.ExecEnded{ExecId: id, Exit: e.exit.Proto()}
}

// Exec starts a process and opens a session with it. A refusal is a session whose
// only message is its error. The start continues even if ctx ends.
func (c *Sessions) Exec(ctx context.Context, open *agentv1.OpenExec) *Session {
	if len(open.ExecId) == 0 || len(open.ExecId) > execIDLimit || len(open.Process.GetArgs()) == 0 {
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED, "an exec needs an ID and a command", 126)
	}
	e := &exec{tty: open.Process.Tty}
	if refusal := c.admitExec(open.ExecId, e); refusal != nil {
		return refusal
	}
	streams := Streams{Stdin: open.AttachStdin, Stdout: open.AttachStdout, Stderr: open.AttachStderr}
	if open.Detach {
		streams = Streams{}
	}
	process, stdio, err := c.options.Runtime.Exec(context.WithoutCancel(ctx), open.Process, streams)
	if err != nil && c.withdrawExec(open.ExecId) {
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING, "the container is not running", 0)
	}
	if err != nil {
		failure := &StartError{ExitCode: 126, Message: err.Error()}
		errors.As(err, &failure)
		c.endExec(open.ExecId, e, false, ExitStatus{Code: failure.ExitCode, FinishedAt: time.Now()})
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED, failure.Message, failure.ExitCode)
	}

	s := &Session{queue: newQueue(), opening: started(process.PID(), e.tty)}
	out := &outputs{}
	out.subscribe(reader{queue: s.queue, wants: [2]bool{
		stdout: streams.Stdout,
		stderr: streams.Stderr,
	}}, nil)
	s.leave = func() { out.unsubscribe(s.queue) }
	s.owner, s.execID = c, open.ExecId
	in := newInput()
	in.connect(stdio)
	if streams.Stdin {
		s.input = in
		s.closes = func() closePolicy { return closePolicy{request: true, leave: true} }
	}
	out.connect(stdio)

	c.mu.Lock()
	e.process, e.stdio, e.pid = process, stdio, process.PID()
	c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_ExecStarted{
		ExecStarted: &agentv1.ExecStarted{ExecId: open.ExecId, Pid: int64(e.pid)}}})
	c.mu.Unlock()

	if open.Detach {
		s.queue.finish(detached())
	}
	go func() {
		<-process.Done()
		out.drain()
		in.close()
		s.end = c.endExec(open.ExecId, e, open.HandOver != nil, process.Status())
		s.queue.finish(exited(process.Status()))
	}()
	return s
}

// admitExec registers an exec, or returns a session with the refusal.
func (c *Sessions) admitExec(id string, e *exec) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.execs[id] != nil:
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_EXISTS, fmt.Sprintf("exec %s has been started before", id), 0)
	case !c.run.running():
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING, "the container is not running", 0)
	case c.paused:
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_PAUSED, "the container is paused, unpause it before exec", 0)
	}
	c.execs[id] = e
	return nil
}

// withdrawExec forgets an exec that could not start because the container has
// ended meanwhile; false: that is not the reason.
func (c *Sessions) withdrawExec(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run.running() && !change.IsClosed(c.run.process.Done()) {
		return false
	}
	delete(c.execs, id)
	c.changed.Notify()
	return true
}

// endExec records an exec's end and tells the watchers before the session. If a
// client waits for that record, it returns the sequence to be acknowledged.
func (c *Sessions) endExec(id string, e *exec, owed bool, status ExitStatus) (sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recordExecEnd(id, e, owed, status)
}

// recordExecEnd is endExec with c.mu held.
func (c *Sessions) recordExecEnd(id string, e *exec, owed bool, status ExitStatus) (sequence uint64) {
	e.exit = &status
	e.process, e.stdio = nil, Stdio{}
	c.ended = append(c.ended, id)
	if len(c.ended) > endedExecsKept {
		delete(c.execs, c.ended[0])
		c.ended = c.ended[1:]
	}
	if c.run.over() {
		c.persist(c.state()) // the main process's end is already recorded
	}
	event := &agentv1.WatchResponse{Event: &agentv1.WatchResponse_ExecEnded{ExecEnded: e.endedMessage(id)}}
	if owed {
		sequence = c.hub.publishOwed(event)
	} else {
		c.hub.publish(event)
	}
	c.changed.Notify()
	return sequence
}

// awaitExecEnds waits, for at most execEndGrace, until no exec runs.
func (c *Sessions) awaitExecEnds() {
	ctx, cancel := context.WithTimeout(context.Background(), execEndGrace)
	defer cancel()
	_ = c.changed.Wait(ctx, &c.mu, func() bool { return len(c.execs) == len(c.ended) })
}

// ExecInspect returns the record of one exec. With refuse, an unopened exec
// counts as ended and can no longer be opened.
func (c *Sessions) ExecInspect(id string, refuse bool) (*agentv1.ExecInspectResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.execs[id]
	if e == nil && refuse && len(id) > 0 && len(id) <= execIDLimit {
		e = &exec{}
		c.execs[id] = e
		c.recordExecEnd(id, e, false, ExitStatus{Code: refusedExecCode, FinishedAt: time.Now()})
	}
	if e == nil {
		return nil, noSuchExec(id)
	}
	response := &agentv1.ExecInspectResponse{Running: e.exit == nil, Pid: int64(e.pid)}
	if e.exit != nil {
		response.Exit = e.exit.Proto()
	}
	return response, nil
}

func noSuchExec(id string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("no such exec: %s", id))
}
