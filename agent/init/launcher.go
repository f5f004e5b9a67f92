package containerinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/init/setpriv"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// launcher starts the processes of the container. It is init mode's
// session.Runtime.
type launcher struct {
	powers  *powers
	reaper  *children.Reaper
	inherit []string // the platform's variables for the user's process

	// prepare is called before the main process is launched; its error fails the
	// start.
	prepare func(*agentv1.StartRequest) error
	// clear is called once nothing is left of a run, before its end is reported,
	// and after a failed launch.
	clear func()
	// oom is called when the OOM killer has killed a process of the container,
	// before that process's end is reported.
	oom func()

	mu      sync.Mutex
	kills   uint64           // reported by oom so far
	main    *programDefaults // of the last Launch
	stopped bool
	living  map[*children.Child]struct{}
	current *process // of the last Launch

	spawning sync.RWMutex // read-locked while a process is created
	paused   bool
	freezer  freezer
}

var _ session.Runtime = (*launcher)(nil)

func newLauncher(powers *powers, reaper *children.Reaper, environ []string) *launcher {
	return &launcher{
		powers: powers, reaper: reaper, inherit: platformVariables(environ),
		prepare: func(*agentv1.StartRequest) error { return nil }, clear: func() {}, oom: func() {}, kills: oomKills(), living: make(map[*children.Child]struct{}),
	}
}

// Launch starts the main process.
func (l *launcher) Launch(_ context.Context, request *agentv1.StartRequest) (_ session.Process, _ session.Stdio, err error) {
	spec := request.Process
	if err := l.prepare(request); err != nil {
		return nil, session.Stdio{}, err
	}
	defer func() {
		if err != nil {
			l.clear()
		}
	}()
	main, err := l.mainDefaults(spec)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	whole := proto.CloneOf(spec) // execs do not get the secrets
	whole.Env = append(whole.Env, request.SecretEnv...)
	whole.Privileged = false // its capabilities are in main
	program, err := main.program(whole, l.powers)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	if err := os.MkdirAll(program.Dir, 0o755); err != nil { // as dockerd does
		return nil, session.Stdio{}, startFailed(directoryFailed(err))
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
		return nil, session.Stdio{}, startFailed(err)
	}
	done := make(chan struct{})
	go l.watchMemory(child.Done())
	go func() {
		defer close(done)
		<-child.Done()
		l.reportOOM()
		// As at the end of a PID namespace's init: nothing survives the main
		// process.
		_ = l.SignalAll(context.Background(), unix.SIGKILL)
		l.forgetPause()
		l.clear()
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = &process{Child: child, kills: kills, main: true, done: done}
	return l.current, wires, nil
}

// running is the main process, nil if none runs.
func (l *launcher) running() *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return nil
	}
	select {
	case <-l.current.Child.Done():
		return nil
	default:
		return l.current
	}
}

// errStopped refuses a start after the platform's stop signal.
var errStopped = &session.StartError{ExitCode: setpriv.Unknown, Message: "the container was stopped before it was started"}

// stop refuses every later Launch.
func (l *launcher) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
}

// Exec starts another process.
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
	if errors.As(err, &failure) && failure.ExitCode == setpriv.Unknown {
		failure.ExitCode = setpriv.NotExecutable // as dockerd returns for an exec
	}
	if err != nil {
		return nil, session.Stdio{}, execFailed(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-child.Done()
		l.reportOOM()
	}()
	return &process{Child: child, kills: kills, done: done}, wires, nil
}

// oomPoll is how often the counter of OOM kills is read while the container runs:
// not every platform lets a container wait for its changes.
const oomPoll = time.Second

// watchMemory reports OOM kills of processes that are not the agent's own
// children.
func (l *launcher) watchMemory(until <-chan struct{}) {
	ticker := time.NewTicker(oomPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.reportOOM()
		case <-until:
			return
		}
	}
}

// reportOOM reports new OOM kills, once.
func (l *launcher) reportOOM() {
	kills := oomKills()
	l.mu.Lock()
	more := kills > l.kills
	l.kills = max(l.kills, kills)
	l.mu.Unlock()
	if more {
		l.oom()
	}
}

// watch tracks the child while it lives.
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
		// Each has its own session and process group, unless it was paused before it made them.
		err := unix.Kill(-child.PID(), signal)
		if err == unix.ESRCH {
			err = child.Signal(signal)
		}
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("signal a process group: %w", err)
		}
	}
	return nil
}
