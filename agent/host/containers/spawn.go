package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// maxReadiness bounds a shim's readiness line, which has some 80 bytes for each port
// and address: of all ports, by TCP and UDP, 21 MB.
const maxReadiness = 32 << 20

// startingShim holds our ends of a shim's pipes.
type startingShim struct {
	readiness *os.File
	specified *os.File
}

func (s *startingShim) close() {
	s.readiness.Close()
	s.specified.Close()
}

// startShim starts the shim, which waits for its specification, so that its
// process comes up while the container is prepared.
func (l *launch) startShim() (*startingShim, error) {
	socket, err := listen(l.spec.AgentSocket)
	if err != nil {
		return nil, fmt.Errorf("agent socket: %w", err)
	}
	defer socket.Close()
	readiness, ready, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	waiting, specified, err := os.Pipe()
	if err != nil {
		readiness.Close()
		return nil, err
	}
	defer waiting.Close()
	starting := &startingShim{readiness: readiness, specified: specified}
	if err := l.spawn(socket, ready, waiting); err != nil {
		starting.close()
		return nil, fmt.Errorf("start the shim: %w", err)
	}
	faultpoint.Reached("host.launch.shim-spawned")
	return starting, nil
}

// ready makes the shim create the container, and waits until it is ready or
// reports an error.
func (s *startingShim) ready(ctx context.Context) (shimspec.Readiness, error) {
	// EPIPE: it has ended, as its readiness will show.
	if _, err := s.specified.Write([]byte{1}); err != nil && !errors.Is(err, unix.EPIPE) {
		return shimspec.Readiness{}, err
	}
	ready, err := awaitReadiness(ctx, s.readiness)
	faultpoint.Reached("host.launch.shim-ready")
	return ready, err
}

// spawn starts a process that outlives us: it has its own session, and inherits
// only these descriptors. Its working directory identifies the run.
func (l *launch) spawn(socket, readiness, specified *os.File) error {
	shim := exec.Command(l.agentPath, "shim", "--spec", l.paths.Spec())
	shim.Dir = l.paths.Run
	shim.ExtraFiles = []*os.File{socket, readiness, specified}
	shim.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shim.Start(); err != nil {
		return err
	}
	l.shim = shim
	return nil
}

// reapShim reaps the shim when it ends; its records say how. Until then its PID,
// and its process group's, cannot be reused.
func (l *launch) reapShim() {
	if l.shim != nil {
		go func() { _ = l.shim.Wait() }()
	}
}

func awaitReadiness(ctx context.Context, pipe *os.File) (ready shimspec.Readiness, err error) {
	stop := context.AfterFunc(ctx, func() { pipe.Close() })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(pipe, maxReadiness)).ReadBytes('\n')
	if ctx.Err() != nil {
		return ready, context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		// Equivalent to no shim: the launch may be repeated.
		return ready, connect.NewError(connect.CodeUnavailable, errors.New("the shim ended before the container was created"))
	}
	if err != nil {
		return ready, fmt.Errorf("wait for the shim: %w", err)
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		return ready, fmt.Errorf("the shim's readiness: %w", err)
	}
	if ready.Error == nil {
		return ready, nil
	}
	code := connect.CodeInternal
	if err := code.UnmarshalText([]byte(ready.Error.Code)); err != nil {
		code = connect.CodeInternal
	}
	return ready, connect.NewError(code, errors.New(ready.Error.Message))
}
