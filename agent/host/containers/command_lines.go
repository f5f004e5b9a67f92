package containers

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/commandline"
	"github.com/sockerless/sockerless/agent/core/descriptors"
)

const (
	// promptly is how long a search waits for one command line before it goes on
	// with the next.
	promptly = 10 * time.Millisecond
	// commandLineLimit is how long a search waits for those that were not there
	// promptly.
	commandLineLimit = 2 * time.Second
	// maxLineReads bounds the pending reads, each of which may take a thread.
	maxLineReads = 64
)

// commandLines reads command lines. The kernel reads one from its process's memory,
// and waits while the process changes its mappings: for ever if that is about a
// file whose server is away.
type commandLines struct {
	read   func(pid int) ([]byte, error)
	limit  time.Duration
	places chan struct{} // an element for each pending read

	mu      sync.Mutex
	pending map[int]*lineRead // by PID, the latest
}

// ofMachine are shared by all searches, so that a process that hangs takes one
// thread.
var ofMachine = newCommandLines(commandline.Read, commandLineLimit)

func newCommandLines(read func(pid int) ([]byte, error), limit time.Duration) *commandLines {
	return &commandLines{
		read: read, limit: limit, places: make(chan struct{}, maxLineReads), pending: map[int]*lineRead{},
	}
}

// lineRead is a read of a process's command line, for all searches that want it.
type lineRead struct {
	pidfd   int           // until done
	isStuck bool          // a search has waited for it in vain; commandLines.mu guards it
	done    chan struct{} // closed once the following are set
	command []byte
	err     error
}

// lateProcess is one whose command line was not there promptly.
type lateProcess struct {
	foundProcess
	read *lineRead
}

// find searches our own PID namespace (containers have others, unless they ask for
// it) for command lines: arguments, each followed by a NUL. One that cannot be read
// in time is none of ours, which do not map files of users.
func (c *commandLines) find(wanted func(command []byte) bool, candidates []string) (found []foundProcess) {
	take := func(process foundProcess, read *lineRead) {
		if read.err == nil && wanted(read.command) {
			found = append(found, process)
		} else {
			unix.Close(process.pidfd)
		}
	}
	var late []lateProcess
	patience := c.limit // with pending reads, until one place was waited for in vain
	for _, candidate := range candidates {
		pid, err := strconv.Atoi(candidate)
		if err != nil {
			continue
		}
		// Everything else is read after the open: the PID cannot be reused in
		// between.
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		process := foundProcess{pid, pidfd}
		if isElsewhere(pid) {
			unix.Close(pidfd)
			continue
		}
		if !c.takePlace(patience) {
			patience = 0
			unix.Close(pidfd)
			continue
		}
		read := c.join(process)
		if read == nil {
			unix.Close(pidfd)
			continue
		}
		select {
		case <-read.done:
			take(process, read)
		case <-time.After(promptly):
			late = append(late, lateProcess{process, read})
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	for _, process := range late {
		select {
		case <-process.read.done:
			take(process.foundProcess, process.read)
		case <-limit.Done():
			unix.Close(process.pidfd)
			c.abandon(process.read)
		}
	}
	return found
}

// takePlace waits until there may be one more read, and reports whether there may.
func (c *commandLines) takePlace(patience time.Duration) bool {
	select {
	case c.places <- struct{}{}:
		return true
	default:
	}
	select {
	case c.places <- struct{}{}:
		return true
	case <-time.After(patience):
		return false
	}
}

// join returns the pending read of a process, for which it gives the place back, or
// begins one. nil: its process hangs.
func (c *commandLines) join(process foundProcess) *lineRead {
	c.mu.Lock()
	defer c.mu.Unlock()
	// If the one that is being read lives after the caller's open, both are the same.
	if pending := c.pending[process.pid]; pending != nil && isAlive(pending.pidfd) {
		<-c.places
		if pending.isStuck {
			return nil
		}
		return pending
	}
	pidfd, err := unix.FcntlInt(uintptr(process.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		<-c.places
		return nil
	}
	begun := &lineRead{pidfd: pidfd, done: make(chan struct{})}
	c.pending[process.pid] = begun
	go func() {
		command, err := c.read(process.pid)
		c.mu.Lock()
		defer c.mu.Unlock()
		begun.command, begun.err = command, err
		if c.pending[process.pid] == begun {
			delete(c.pending, process.pid)
		}
		unix.Close(pidfd)
		close(begun.done)
		<-c.places
	}()
	return begun
}

func isAlive(pidfd int) bool {
	hasEnded, err := descriptors.Readable(0, pidfd)
	return err == nil && !hasEnded
}

// abandon leaves a read to itself.
func (c *commandLines) abandon(read *lineRead) {
	c.mu.Lock()
	defer c.mu.Unlock()
	read.isStuck = true
}

// isElsewhere reports whether a process is known to be in another PID namespace.
func isElsewhere(pid int) bool {
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && its != own
}
