package session

import (
	"context"
	"errors"
	"fmt"
	"os"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// ErrNotRunning answers what needs a running process (FAILED_PRECONDITION).
var ErrNotRunning = connect.NewError(connect.CodeFailedPrecondition, errors.New("the process is not running"))

// target finds a running process and its terminal. An empty ID is the main
// process.
func (c *Container) target(execID string) (Process, *os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
func (c *Container) Resize(request *agentv1.ResizeRequest) error {
	height, width := request.GetSize().GetHeight(), request.GetSize().GetWidth()
	if height > 0xffff || width > 0xffff {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("terminal size %dx%d is too large", height, width))
	}
	_, terminal, err := c.target(request.ExecId)
	if err != nil || terminal == nil {
		return err
	}
	if err := SetTerminalSize(terminal, height, width); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// SetTerminalSize sets the size, in characters, of the terminal behind a master.
func SetTerminalSize(terminal *os.File, height, width uint32) error {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	size := unix.Winsize{Row: uint16(height), Col: uint16(width)}
	var ioctl error
	if err := raw.Control(func(fd uintptr) { ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size) }); err != nil {
		return err
	}
	return ioctl
}

// Signal sends a signal to one process, or to every process of the container.
func (c *Container) Signal(ctx context.Context, request *agentv1.SignalRequest) error {
	if request.Signal < 1 || request.Signal > 64 {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("no such signal: %d", request.Signal))
	}
	process, _, err := c.target(request.ExecId)
	if err != nil {
		return err
	}
	if request.ClientToken != "" && !c.isFirst(request.ClientToken) {
		return nil
	}
	signal := unix.Signal(request.Signal)
	if request.All {
		return c.options.Runtime.SignalAll(ctx, signal)
	}
	err = process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	return err
}

// isFirst tells whether a signal's token comes for the first time in this run.
func (c *Container) isFirst(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run.signalled[token] {
		return false
	}
	if c.run.signalled == nil {
		c.run.signalled = map[string]bool{}
	}
	c.run.signalled[token] = true
	return true
}

// Pause freezes the container. It may be repeated.
func (c *Container) Pause(ctx context.Context) error {
	return c.setPaused(ctx, true, c.options.Runtime.Pause)
}

// Resume thaws the container. It may be repeated.
func (c *Container) Resume(ctx context.Context) error {
	return c.setPaused(ctx, false, c.options.Runtime.Resume)
}

func (c *Container) setPaused(ctx context.Context, paused bool, apply func(context.Context) error) error {
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
