package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"

	"github.com/sockerless/sockerless/agent/core/descriptors"
)

// shimLimit bounds a shim's release of its container: longer than the shim waits
// for calls that need the container.
const shimLimit = 15 * time.Second

// foundProcess identifies a process by a pidfd, since its PID may be reused.
type foundProcess struct {
	pid   int
	pidfd int
}

// findShims finds the container's shim, or the remains of a dead shim. It
// identifies processes that are not our children by their command line: the PID
// in a readiness record is only a hint. During execve, and while it exits, a
// process has no command line, but a shim holds the agent socket from before the
// first until after the last.
func findShims(ctx context.Context, paths shimspec.ContainerPaths, last *launched) ([]foundProcess, error) {
	if last.child != 0 {
		pidfd, err := unix.PidfdOpen(last.child, 0)
		return []foundProcess{{last.child, pidfd}}, err
	}
	wanted := []byte("\x00shim\x00--spec\x00" + paths.Spec() + "\x00")
	isShim := func(command []byte) bool { return bytes.HasSuffix(command, wanted) }
	for deadline := time.Now().Add(shimLimit); ; {
		candidates := []string{strconv.Itoa(last.ready.ShimPID)}
		if last.ready.ShimPID == 0 {
			var err error
			if candidates, err = processDirectories(); err != nil {
				return nil, err
			}
		}
		found := notOfEarlierRuns(ofMachine.find(isShim, candidates))
		if len(found) > 0 || !mayAnswer(paths.AgentSocket()) {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return nil, errors.New("its socket may answer, but no process is found")
		}
		time.Sleep(time.Millisecond)
	}
}

// notOfEarlierRuns removes shims that have released the container and stay for an
// earlier run's clients: their working directory, the run directory, was deleted.
// Shims of earlier versions have another working directory.
func notOfEarlierRuns(shims []foundProcess) []foundProcess {
	return slices.DeleteFunc(shims, func(shim foundProcess) bool {
		directory, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(shim.pid), "cwd"))
		isEarlier := err == nil && strings.HasSuffix(directory, " (deleted)")
		if isEarlier {
			unix.Close(shim.pidfd)
		}
		return isEarlier
	})
}

// endCommands ends the runtime's commands for a container without a shim, and
// returns once they can create nothing more: those whose command lines can be read
// in time.
func endCommands(ctx context.Context, runtimeRoot, id string) error {
	candidates, err := processDirectories()
	if err != nil {
		return err
	}
	root, last := []byte("\x00--root\x00"+runtimeRoot+"\x00"), []byte("\x00"+id+"\x00")
	commands := ofMachine.find(func(command []byte) bool {
		return bytes.Contains(command, root) && bytes.HasSuffix(command, last)
	}, candidates)
	defer closeAll(commands)
	for _, command := range commands {
		if err := command.end(ctx, unix.SIGKILL); err != nil {
			return fmt.Errorf("end the runtime's command: %w", err)
		}
	}
	return nil
}

func processDirectories() ([]string, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	return proc.Readdirnames(-1)
}

func closeAll(processes []foundProcess) {
	for _, process := range processes {
		unix.Close(process.pidfd)
	}
}

// release makes a shim release its container, first by a signal. It may stay then
// for its clients, refusing connections; it gets only one SIGTERM, since a second
// one cuts its clients.
func (p foundProcess) release(ctx context.Context, socket string) error {
	isReleased := func() bool { return !mayAnswer(socket) }
	if isReleased() {
		return nil
	}
	return p.endUnless(ctx, isReleased, unix.SIGTERM, unix.SIGKILL)
}

// end sends the signals in turn until the process ends. SIGKILL also goes to the
// runtime's commands: a shim leads a process group.
func (p foundProcess) end(ctx context.Context, signals ...unix.Signal) error {
	return p.endUnless(ctx, func() bool { return false }, signals...)
}

// endUnless is end, but stops once enough returns true.
func (p foundProcess) endUnless(ctx context.Context, enough func() bool, signals ...unix.Signal) error {
	for _, signal := range signals {
		err := unix.PidfdSendSignal(p.pidfd, signal, nil, 0)
		if err == nil && signal == unix.SIGKILL {
			_ = unix.Kill(-p.pid, signal)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d: %w", signal, err)
		}
		ended, err := p.awaitEnd(ctx, enough)
		if err != nil || ended {
			return err
		}
	}
	return errors.New("it does not end")
}

// requestRelease is release without waiting.
func (p foundProcess) requestRelease(socket string) error {
	if !mayAnswer(socket) {
		return nil
	}
	if err := unix.PidfdSendSignal(p.pidfd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d: %w", unix.SIGTERM, err)
	}
	return nil
}

// awaitEnd waits, for at most shimLimit, until the process has ended or enough
// returns true.
func (p foundProcess) awaitEnd(ctx context.Context, enough func() bool) (bool, error) {
	const step = 100 * time.Millisecond // how soon the others are noticed
	for deadline := time.Now().Add(shimLimit); time.Now().Before(deadline); {
		if ended, err := descriptors.Readable(step, p.pidfd); ended || err != nil {
			return ended, err
		}
		if enough() {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}
