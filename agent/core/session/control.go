package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// tokensKept bounds the tokens of signals that are known: some processes get a
// signal a second for months.
const tokensKept = 256

// ErrNotRunning fails calls that need a running process (FAILED_PRECONDITION).
var ErrNotRunning = connect.NewError(connect.CodeFailedPrecondition, errors.New("the process is not running"))

// target returns a running process and its terminal. An empty ID means the main
// process.
func (c *Sessions) target(execID string) (Process, *os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookUp(execID)
}

// lookUp is target with c.mu held.
func (c *Sessions) lookUp(execID string) (Process, *os.File, error) {
	if execID == "" {
		if !c.run.running() {
			return nil, nil, ErrNotRunning
		}
		return c.run.process, c.run.terminal, nil
	}
	e := c.execs[execID]
	switch {
	case e == nil:
		return nil, nil, noSuchExec(execID)
	case e.process == nil:
		return nil, nil, ErrNotRunning
	}
	return e.process, e.stdio.Terminal, nil
}

// Resize sets a terminal's size; a process without one does not notice.
func (c *Sessions) Resize(request *agentv1.ResizeRequest) error {
	height, width := request.GetSize().GetHeight(), request.GetSize().GetWidth()
	if height > 0xffff || width > 0xffff {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("terminal size %dx%d is too large", height, width))
	}
	_, terminal, err := c.target(request.ExecId)
	if err != nil || terminal == nil {
		return err
	}
	err = SetTerminalSize(terminal, height, width)
	switch {
	case errors.Is(err, os.ErrClosed): // its process has ended meanwhile
		return ErrNotRunning
	case err != nil:
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// SetTerminalSize sets the size, in characters, of the terminal behind a master.
// os.ErrClosed: the master is closed.
func SetTerminalSize(terminal *os.File, height, width uint32) error {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	size := unix.Winsize{Row: uint16(height), Col: uint16(width)}
	var ioctl error
	if err := raw.Control(func(fd uintptr) { ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size) }); err != nil {
		return fmt.Errorf("%w: %w", os.ErrClosed, err) // the only cause, under another name
	}
	return ioctl
}

// Signal sends a signal to one process, or to every process of the container.
func (c *Sessions) Signal(ctx context.Context, request *agentv1.SignalRequest) error {
	if request.Signal < 1 || request.Signal > 64 {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("no such signal: %d", request.Signal))
	}
	if request.ClientToken == "" {
		_, err := c.send(ctx, request)
		return err
	}
	c.signalling.Lock()
	defer c.signalling.Unlock()
	run, err := c.send(ctx, request)
	if err == nil {
		c.sent(run, request.ClientToken)
	}
	return err
}

// send sends a signal, unless this run has already sent one with its token.
func (c *Sessions) send(ctx context.Context, request *agentv1.SignalRequest) (*run, error) {
	c.mu.Lock()
	run := c.run
	process, _, err := c.lookUp(request.ExecId)
	if request.ExecId == "" && request.Generation != 0 && request.Generation != run.generation {
		err = ErrNotRunning
	}
	isSent := slices.Contains(run.signalled, request.ClientToken)
	c.mu.Unlock()
	if err != nil || isSent {
		return run, err
	}
	signal := unix.Signal(request.Signal)
	if request.All {
		return run, c.options.Runtime.SignalAll(ctx, signal)
	}
	err = process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		return run, ErrNotRunning
	}
	return run, err
}

// sent records the token of a signal that was sent; an unsent one is sent by the
// next call.
func (c *Sessions) sent(run *run, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(run.signalled, token) {
		return
	}
	run.signalled = append(run.signalled, token)
	if len(run.signalled) > tokensKept {
		run.signalled = slices.Clone(run.signalled[tokensKept/2:])
	}
}

// Pause freezes the container. It may be repeated.
func (c *Sessions) Pause(ctx context.Context) error {
	return c.setPaused(ctx, true, c.options.Runtime.Pause)
}

// Resume thaws the container. It may be repeated.
func (c *Sessions) Resume(ctx context.Context) error {
	return c.setPaused(ctx, false, c.options.Runtime.Resume)
}

func (c *Sessions) setPaused(ctx context.Context, paused bool, apply func(context.Context) error) error {
	c.pausing.Lock()
	defer c.pausing.Unlock()
	c.mu.Lock()
	running, already := c.run.running(), c.paused == paused
	c.mu.Unlock()
	if !running {
		return ErrNotRunning
	}
	if already {
		return nil
	}
	if err := apply(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused && c.run.running()
	return nil
}
