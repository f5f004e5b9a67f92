// Package server serves sockerless.agent.v1's AgentService over HTTP/2, in the
// same way for a shim, a cloud container's init and the host process.
package server

import (
	"context"
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// ContainerIDKey is the metadata key of the call's container, for servers of
// several containers.
const ContainerIDKey = "sockerless-container-id"

// Container implements an agent's calls for one container. A mode embeds
// Unimplemented and defines those that it can serve. Errors made with
// connect.NewError keep their code; others are internal.
type Container interface {
	Hello(context.Context) (*agentv1.HelloResponse, error)
	Start(context.Context, *agentv1.StartRequest) (*agentv1.StartResponse, error)
	Describe(context.Context) (*agentv1.DescribeResponse, error)
	// Exec and Attach open a session. An error fails the call itself; what the
	// contract defines as SessionError is a session with that message.
	Exec(context.Context, *agentv1.OpenExec) (Session, error)
	Attach(context.Context, *agentv1.OpenAttach) (Session, error)
	Resize(context.Context, *agentv1.ResizeRequest) error
	Signal(context.Context, *agentv1.SignalRequest) error
	ExecInspect(ctx context.Context, execID string, refuse bool) (*agentv1.ExecInspectResponse, error)
	// Acknowledge confirms that a watcher has recorded all events up to sequence.
	Acknowledge(ctx context.Context, sequence uint64) error
	Watch(context.Context) (Watcher, error)
	Pause(context.Context) error
	Resume(context.Context) error
	// Logs opens the recorded output; the server closes the reader.
	Logs(context.Context, log.ReadOptions) (*log.Reader, error)
	// Files opens the container's root directory (O_PATH suffices), and is told
	// whether anything beneath it is written; the server closes it.
	Files(ctx context.Context, writes bool) (*os.File, error)
	Resources
}

// Session is one exec or attachment (see session.Session).
type Session interface {
	// Next waits for the next message; its data is valid until the next call.
	// After the last one it returns io.EOF.
	Next(context.Context) (*agentv1.SessionResponse, error)
	// WriteStdin blocks while the process does not read. It fails only when the
	// context is done.
	WriteStdin(context.Context, []byte) error
	CloseStdin()
	// Leave ends the session with `detached`, after the output so far.
	Leave()
	Close()
}

// HandOvers is a Container that accepts clients' connections itself.
type HandOvers interface {
	HandOvers() *handover.Offers
}

// Watcher receives events (see session.Watcher).
type Watcher interface {
	Next(context.Context) (*agentv1.WatchResponse, error)
	Close()
}

// Unimplemented fails every call with CodeUnimplemented, naming the call and the
// mode.
type Unimplemented struct {
	Mode string // "a shim", "the host process", …
}

var _ Container = Unimplemented{}

func (u Unimplemented) cannot(what string) error {
	return connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s does not implement %s", u.Mode, what))
}

// Hello is not implemented.
func (u Unimplemented) Hello(context.Context) (*agentv1.HelloResponse, error) {
	return nil, u.cannot("Hello")
}

// Start is not implemented.
func (u Unimplemented) Start(context.Context, *agentv1.StartRequest) (*agentv1.StartResponse, error) {
	return nil, u.cannot("Start")
}

// Describe is not implemented.
func (u Unimplemented) Describe(context.Context) (*agentv1.DescribeResponse, error) {
	return nil, u.cannot("Describe")
}

// Exec is not implemented.
func (u Unimplemented) Exec(context.Context, *agentv1.OpenExec) (Session, error) {
	return nil, u.cannot("Session (exec)")
}

// Attach is not implemented.
func (u Unimplemented) Attach(context.Context, *agentv1.OpenAttach) (Session, error) {
	return nil, u.cannot("Session (attach)")
}

// Resize is not implemented.
func (u Unimplemented) Resize(context.Context, *agentv1.ResizeRequest) error {
	return u.cannot("Resize")
}

// Signal is not implemented.
func (u Unimplemented) Signal(context.Context, *agentv1.SignalRequest) error {
	return u.cannot("Signal")
}

// ExecInspect is not implemented.
func (u Unimplemented) ExecInspect(context.Context, string, bool) (*agentv1.ExecInspectResponse, error) {
	return nil, u.cannot("ExecInspect")
}

// Acknowledge is not implemented.
func (u Unimplemented) Acknowledge(context.Context, uint64) error { return u.cannot("Acknowledge") }

// Watch is not implemented.
func (u Unimplemented) Watch(context.Context) (Watcher, error) { return nil, u.cannot("Watch") }

// Pause is not implemented.
func (u Unimplemented) Pause(context.Context) error { return u.cannot("Pause") }

// Resume is not implemented.
func (u Unimplemented) Resume(context.Context) error { return u.cannot("Resume") }

// Logs is not implemented.
func (u Unimplemented) Logs(context.Context, log.ReadOptions) (*log.Reader, error) {
	return nil, u.cannot("Logs")
}

// Files is not implemented.
func (u Unimplemented) Files(context.Context, bool) (*os.File, error) {
	return nil, u.cannot("the Archive calls")
}

// Removable is a Container whose files may be removed while they are read.
type Removable interface {
	// StillThere returns an error once they are being removed.
	StillThere() error
}

// ArchiveTaker is a Container that stores an archive as it is, instead of
// unpacking it.
type ArchiveTaker interface {
	TakeArchive(context.Context, io.Reader) error
}
