package containerinit

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/init/setpriv"
)

var _ server.Releasable = (*container)(nil)

// errWithdrawn is the outcome of a start that is released before its process has begun.
var errWithdrawn = &session.StartError{ExitCode: setpriv.Unknown, Message: "the start was withdrawn"}

// Release lets the agent leave at once: the container is no longer needed. A start
// that waits for its attachments is withdrawn.
func (c *container) Release(_ context.Context, generation uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.Sessions.State()
	var reason error
	switch {
	case c.released:
		return nil
	case state.Started != nil && state.Exit == nil, c.starting > 0 && !c.Sessions.WithdrawStart(generation, errWithdrawn):
		reason = errors.New("the container is running")
	case generation < c.generation:
		reason = fmt.Errorf("the container was started again: the last start was number %d, not %d", c.generation, generation)
	}
	if reason != nil {
		return connect.NewError(connect.CodeFailedPrecondition, reason)
	}
	c.letGo(&session.StartError{Message: "the container was removed before it was started"})
	return nil
}

// abandon makes the agent leave once its main process has ended, since nobody can
// reach it any more.
func (c *container) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo(&session.StartError{ExitCode: exitFailed, Message: "the agent cannot be reached"})
}

// letGo ends the agent's stay, and the attachments that wait for a start. c.mu is
// held.
func (c *container) letGo(why *session.StartError) {
	c.released, c.leaving = true, true
	if state := c.Sessions.State(); state.Started == nil || state.Exit != nil {
		c.Sessions.FailStart(why)
	}
	c.changed.Notify()
}
