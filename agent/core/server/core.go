package server

import (
	"context"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Core implements the calls that Sessions serve. A mode embeds it and adds Hello,
// Describe, Logs and Files.
type Core struct {
	Sessions *session.Sessions
}

// Start starts the main process.
func (c Core) Start(ctx context.Context, request *agentv1.StartRequest) (*agentv1.StartResponse, error) {
	return c.Sessions.Start(ctx, request)
}

// Exec opens an exec's session.
func (c Core) Exec(ctx context.Context, open *agentv1.OpenExec) (Session, error) {
	return c.Sessions.Exec(ctx, open), nil
}

// Attach opens a session with the main process.
func (c Core) Attach(_ context.Context, open *agentv1.OpenAttach) (Session, error) {
	return c.Sessions.Attach(open), nil
}

// Resize sets a terminal's size.
func (c Core) Resize(_ context.Context, request *agentv1.ResizeRequest) error {
	return c.Sessions.Resize(request)
}

// Signal sends a signal.
func (c Core) Signal(ctx context.Context, request *agentv1.SignalRequest) error {
	return c.Sessions.Signal(ctx, request)
}

// ExecInspect returns an exec's record.
func (c Core) ExecInspect(_ context.Context, execID string, refuse bool) (*agentv1.ExecInspectResponse, error) {
	return c.Sessions.ExecInspect(execID, refuse)
}

// Acknowledge confirms that a watcher has recorded all events up to sequence.
func (c Core) Acknowledge(_ context.Context, sequence uint64) error {
	c.Sessions.Acknowledge(sequence)
	return nil
}

// Watch begins with the whole state.
func (c Core) Watch(context.Context) (Watcher, error) { return c.Sessions.Watch(), nil }

// Pause freezes the container.
func (c Core) Pause(ctx context.Context) error { return c.Sessions.Pause(ctx) }

// Resume thaws the container.
func (c Core) Resume(ctx context.Context) error { return c.Sessions.Resume(ctx) }
