package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// shimLimit is how long a shim may take to leave: longer than it lets slow
// clients drain.
const shimLimit = 15 * time.Second

// shimProcess is a shim, held by a descriptor: its number can change hands.
type shimProcess struct {
	pid   int
	pidfd int
}

// shimProcesses finds the processes that run a shim of this specification. The
// number known from its readiness is only a hint, 0 where there is none: what
// counts is the command line, which is there from the first moment on.
func shimProcesses(spec string, hint int) (found []shimProcess, err error) {
	candidates := []string{strconv.Itoa(hint)}
	if hint == 0 {
		if candidates, err = processDirectories(); err != nil {
			return nil, err
		}
	}
	wanted := []byte("\x00shim\x00--spec\x00" + spec + "\x00")
	for _, candidate := range candidates {
		pid, err := strconv.Atoi(candidate)
		if err != nil {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Read after the open: the number cannot change hands in between.
		command, err := os.ReadFile(filepath.Join("/proc", candidate, "cmdline"))
		if err == nil && bytes.HasSuffix(command, wanted) {
			found = append(found, shimProcess{pid, pidfd})
		} else {
			unix.Close(pidfd)
		}
	}
	return found, nil
}

func processDirectories() ([]string, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	return proc.Readdirnames(-1)
}

func closeAll(shims []shimProcess) {
	for _, shim := range shims {
		unix.Close(shim.pidfd)
	}
}

// end sends the signals one after the other, as long as the process does not
// end. SIGKILL goes to the runtime's commands, too: a shim leads a process group.
func (s shimProcess) end(ctx context.Context, signals []unix.Signal) error {
	for _, signal := range signals {
		err := unix.PidfdSendSignal(s.pidfd, signal, nil, 0)
		if err == nil && signal == unix.SIGKILL {
			_ = unix.Kill(-s.pid, signal)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d: %w", signal, err)
		}
		ended, err := s.awaitEnd(ctx)
		if err != nil || ended {
			return err
		}
	}
	return errors.New("it does not end")
}

// dismiss sends the first signal only, and lets the process end when it will.
func (s shimProcess) dismiss(_ context.Context, signals []unix.Signal) error {
	if err := unix.PidfdSendSignal(s.pidfd, signals[0], nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d: %w", signals[0], err)
	}
	return nil
}

// awaitEnd waits for at most shimLimit.
func (s shimProcess) awaitEnd(ctx context.Context) (bool, error) {
	const step = 100 * time.Millisecond // how soon ctx is noticed
	for deadline := time.Now().Add(shimLimit); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}
