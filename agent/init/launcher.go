package containerinit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/stdio"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/init/stage"
)

// ownBinary is the agent's executable, also after somebody has deleted it.
const ownBinary = "/proc/self/exe"

// maxReport bounds what a stage, which may be the user's by then, can tell.
const maxReport = 64 << 10

// launcher starts the processes of the container. It is the session.Runtime of
// init mode.
type launcher struct {
	powers  *powers
	reaper  *children.Reaper
	inherit []string // the platform's variables for the user's process

	mu      sync.Mutex
	main    *programDefaults // of the last Launch
	stopped bool
	living  map[*children.Child]struct{}
}

var _ session.Runtime = (*launcher)(nil)

func newLauncher(powers *powers, reaper *children.Reaper, environ []string) *launcher {
	return &launcher{powers: powers, reaper: reaper, inherit: platformVariables(environ), living: make(map[*children.Child]struct{})}
}

// Launch starts the main process.
func (l *launcher) Launch(_ context.Context, request *agentv1.StartRequest) (session.Process, session.Stdio, error) {
	spec := request.Process
	if len(spec.GetArgs()) == 0 {
		return nil, session.Stdio{}, &session.StartError{ExitCode: stage.NotFound, Message: "no command specified"}
	}
	main, err := l.mainDefaults(spec)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	program, err := main.program(spec, l.powers)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	if err := os.MkdirAll(program.Dir, 0o755); err != nil { // as dockerd does
		return nil, session.Stdio{}, fmt.Errorf("make the working directory: %w", err)
	}
	l.mu.Lock()
	stopped := l.stopped
	l.main = main
	l.mu.Unlock()
	if stopped {
		return nil, session.Stdio{}, errStopped
	}
	kills := oomKills()
	child, wires, err := l.spawn(program, spec, session.Streams{Stdin: request.OpenStdin, Stdout: true, Stderr: true})
	if err != nil {
		return nil, session.Stdio{}, err
	}
	done := make(chan struct{})
	go func() {
		<-child.Done()
		// As when a PID namespace's init ends: nothing survives the main process.
		_ = l.SignalAll(context.Background(), unix.SIGKILL)
		close(done)
	}()
	return &process{Child: child, kills: kills, main: true, done: done}, wires, nil
}

// errStopped refuses a start after the platform has said that all ends.
var errStopped = &session.StartError{ExitCode: stage.Unknown, Message: "the container was stopped before it was started"}

// stop refuses every later Launch.
func (l *launcher) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
}

// Exec starts one more process.
func (l *launcher) Exec(_ context.Context, spec *agentv1.ProcessSpec, streams session.Streams) (session.Process, session.Stdio, error) {
	l.mu.Lock()
	main := l.main
	l.mu.Unlock()
	if main == nil {
		return nil, session.Stdio{}, session.ErrNotRunning
	}
	program, err := main.program(spec, l.powers)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	kills := oomKills()
	child, wires, err := l.spawn(program, spec, streams)
	var failure *session.StartError
	if errors.As(err, &failure) && failure.ExitCode == stage.Unknown {
		failure.ExitCode = stage.NotExecutable // as dockerd answers an exec
	}
	if err != nil {
		return nil, session.Stdio{}, err
	}
	return &process{Child: child, kills: kills, done: child.Done()}, wires, nil
}

// spawn runs a stage until it has become the program, or has told why not.
func (l *launcher) spawn(program *stage.Spec, spec *agentv1.ProcessSpec, streams session.Streams) (_ *children.Child, _ session.Stdio, err error) {
	wires, err := wire(spec, streams)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	defer wires.CloseChild()
	defer func() {
		if err != nil {
			wires.Ours.Close()
		}
	}()
	specification, tell, err := os.Pipe()
	if err != nil {
		return nil, session.Stdio{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer tell.Close()
	reports, report, err := os.Pipe()
	if err != nil {
		specification.Close()
		return nil, session.Stdio{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer reports.Close()
	child, err := l.reaper.Spawn(ownBinary, []string{"sockerless-agent", stage.Name}, &os.ProcAttr{
		Env:   []string{}, // nothing of the agent's
		Files: []*os.File{wires.Child[0], wires.Child[1], wires.Child[2], specification, report},
	})
	specification.Close()
	report.Close()
	if err != nil {
		return nil, session.Stdio{}, err
	}
	l.watch(child)
	// A stage that dies early breaks the pipe; why shows in what it reports.
	_ = json.NewEncoder(tell).Encode(program)
	tell.Close()
	if err := outcome(reports); err != nil {
		_ = child.Signal(unix.SIGKILL)
		<-child.Done()
		return nil, session.Stdio{}, err
	}
	return child, wires.Ours, nil
}

func wire(spec *agentv1.ProcessSpec, streams session.Streams) (*stdio.Wiring, error) {
	if !spec.Tty {
		return stdio.Pipes(streams)
	}
	wires, err := stdio.Terminal()
	if err != nil {
		return nil, err
	}
	if size := spec.ConsoleSize; size.GetHeight() > 0 && size.GetWidth() > 0 {
		if err := session.SetTerminalSize(wires.Ours.Terminal, size.Height, size.Width); err != nil {
			wires.Close()
			return nil, fmt.Errorf("size the terminal: %w", err)
		}
	}
	return wires, nil
}

// outcome reads a stage's reports to their end.
func outcome(from io.Reader) error {
	reports := json.NewDecoder(io.LimitReader(from, maxReport))
	var prepared, failed stage.Report
	if err := reports.Decode(&prepared); err != nil {
		return &session.StartError{ExitCode: stage.Unknown, Message: "unable to start container process: it died while it was prepared"}
	}
	failure := &prepared
	if prepared.ExitCode == 0 {
		if err := reports.Decode(&failed); err == io.EOF {
			return nil
		}
		failure = &failed
	}
	return &session.StartError{ExitCode: failure.ExitCode, Message: "unable to start container process: " + failure.Message}
}

// watch keeps the child known while it lives.
func (l *launcher) watch(child *children.Child) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.living[child] = struct{}{}
	go func() {
		<-child.Done()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.living, child)
	}()
}

// SignalAll sends a signal to every process of the container but the agent.
func (l *launcher) SignalAll(_ context.Context, signal unix.Signal) error {
	if l.powers.pidOne {
		if err := unix.Kill(-1, signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal every process: %w", err)
		}
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for child := range l.living {
		// Each began a session, and so a process group, of its own.
		if err := unix.Kill(-child.PID(), signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal a process group: %w", err)
		}
	}
	return nil
}

var errNoPause = connect.NewError(connect.CodeUnimplemented,
	errors.New("the agent of a cloud container cannot pause: the platform gives no access to the container's cgroup"))

// Pause is not possible.
func (l *launcher) Pause(context.Context) error { return errNoPause }

// Resume is not possible.
func (l *launcher) Resume(context.Context) error { return errNoPause }
