package session

import (
	"context"
	"slices"

	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const maxReservations = 1024

// Attach opens a session with the main process, before or after its start. A
// refusal is a session whose only message is its error.
func (c *Sessions) Attach(open *agentv1.OpenAttach) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.run
	if r.attached[open.AttachId] && r.process != nil {
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL, "the attachment was opened before, and what it has got is lost", 0)
	}
	if slices.Contains(r.missed, open.AttachId) {
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL, "the container was started without the attachment, and output is lost", 0)
	}
	if r.over() && open.AttachId != "" && c.options.Restartable {
		r = c.nextRun()
	}
	if r.over() && !open.ReplayLog {
		return refused(agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING, "the container is not running", 0)
	}
	s := &Session{queue: newQueue(), opening: started(r.pid(), r.tty), owner: c}
	s.leave = func() {
		r.outputs.unsubscribe(s.queue)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(r.sessions, s)
	}
	if open.Stdin && open.Stream {
		s.input = r.input
		s.closes = func() closePolicy { // a start may change it
			c.mu.Lock()
			defer c.mu.Unlock()
			return closePolicy{request: r.once, leave: r.once}
		}
	}
	c.follow(r, s, open)
	switch {
	case r.exit != nil:
		s.queue.finish(exited(*r.exit))
	case r.failure != nil:
		s.queue.finish(failed(agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED, r.failure.Message, int(r.failure.ExitCode)))
	case !open.Stream:
		s.queue.finish(detached())
	default:
		r.sessions[s] = struct{}{}
	}
	if open.AttachId != "" && len(r.attached) < maxReservations {
		r.attached[open.AttachId] = true
		c.changed.Notify()
	}
	return s
}

// follow gives the session its replay, and the live output from the replay's end.
func (c *Sessions) follow(r *run, s *Session, open *agentv1.OpenAttach) {
	mark := func() {}
	if record := c.options.Log; open.ReplayLog && record != nil {
		mark = func() {
			// A log with a backlog may be slow: only this session waits for it.
			end := record.End()
			s.openReplay = func(ctx context.Context) (*log.Reader, error) {
				upTo, err := end.Wait(ctx)
				if err != nil {
					return nil, err
				}
				return record.Reader(log.ReadOptions{Stdout: open.Stdout, Stderr: open.Stderr, UpTo: &upTo})
			}
		}
	}
	live := reader{queue: s.queue}
	if open.Stream {
		live.wants = [2]bool{stdout: open.Stdout, stderr: open.Stderr}
	}
	r.outputs.subscribe(live, mark)
}

func (r *run) pid() int {
	if r.process == nil {
		return 0
	}
	return r.process.PID()
}
