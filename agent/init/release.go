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

// Release lets the agent leave at once: nobody needs the container any more.
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
	case generation != c.generation:
		reason = fmt.Errorf("the last start was number %d, not %d", c.generation, generation)
	}
	if reason != nil {
		return connect.NewError(connect.CodeFailedPrecondition, reason)
	}
	c.released, c.leaving = true, true
	// Attachments that wait for a start have nothing to wait for.
	c.Sessions.FailStart(&session.StartError{Message: "the container was removed before it was started"})
	c.notify()
	return nil
}
