package children

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Child is one child process.
type Child struct {
	pid  int
	done chan struct{}
	exit exit // valid once done is closed

	mu    sync.Mutex
	pidfd int // -1: the kernel has none, or the process has ended
}

func newChild(pid int) *Child {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		fd = -1
	}
	return &Child{pid: pid, done: make(chan struct{}), pidfd: fd}
}

// PID is the process's number, valid after its end too.
func (c *Child) PID() int { return c.pid }

// Done is closed once the process has ended and been reaped.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status waits for the process's end, and returns its status and time.
func (c *Child) Status() (unix.WaitStatus, time.Time) {
	<-c.done
	return c.exit.status, c.exit.at
}

// Signal signals this process, never a later one with the same number. It returns
// os.ErrProcessDone once the process has ended.
func (c *Child) Signal(signal unix.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return os.ErrProcessDone
	default:
	}
	var err error
	if c.pidfd >= 0 {
		err = unix.PidfdSendSignal(c.pidfd, signal, nil, 0)
	} else {
		err = unix.Kill(c.pid, signal)
	}
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Hold returns a pidfd of the process, or os.ErrProcessDone once it has ended.
func (c *Child) Hold() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd < 0 {
		return nil, os.ErrProcessDone
	}
	fd, err := unix.FcntlInt(uintptr(c.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", c.pid, err)
	}
	return os.NewFile(uintptr(fd), "process"), nil
}

func (c *Child) finish(ended exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
	c.exit = ended
	close(c.done)
}
