package containerinit

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
)

var _ server.Releasable = (*container)(nil)

// Release lets the agent leave at once: the container is no longer needed.
func (c *container) Release(_ context.Context, generation uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.Sessions.State()
	var reason error
	switch {
	case c.released:
		return nil
	case c.starting > 0, state.Started != nil && state.Exit == nil:
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
