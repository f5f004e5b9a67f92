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

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// maxReadiness bounds a shim's readiness line.
const maxReadiness = 1 << 20

// startShim starts the shim and waits until it is ready or says why not.
func (l *launch) startShim(ctx context.Context) (shimspec.Readiness, error) {
	socket, err := listen(l.spec.AgentSocket)
	if err != nil {
		return shimspec.Readiness{}, fmt.Errorf("agent socket: %w", err)
	}
	defer socket.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return shimspec.Readiness{}, err
	}
	defer reader.Close()
	err = l.spawn(socket, writer)
	writer.Close()
	if err != nil {
		return shimspec.Readiness{}, fmt.Errorf("start the shim: %w", err)
	}
	faultpoint.Reached("host.launch.shim-spawned")
	ready, err := awaitReadiness(ctx, reader)
	faultpoint.Reached("host.launch.shim-ready")
	return ready, err
}

// spawn starts a process that stays when we go: a session of its own, nothing of
// ours but the two descriptors.
func (l *launch) spawn(socket, readiness *os.File) error {
	shim := exec.Command(l.agentPath, "shim", "--spec", l.paths.Spec())
	shim.Dir = "/"
	shim.ExtraFiles = []*os.File{socket, readiness}
	shim.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shim.Start(); err != nil {
		return err
	}
	l.shim = shim
	return nil
}

// reapShim reaps the shim whenever it ends; how it ended is in its records. Up to
// then its number, and its process group's, stay its own.
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
		return ready, errors.New("the shim ended before the container was created")
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
