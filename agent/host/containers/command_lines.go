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
)

const (
	// promptly is how long a search waits for one command line before it goes on
	// with the next.
	promptly = 10 * time.Millisecond
	// commandLineLimit is how long a search waits for those that were not there
	// promptly.
	commandLineLimit = 2 * time.Second
)

// commandLines reads command lines. The kernel reads one from its process's memory,
// and waits while the process changes its mappings: for ever if that is about a
// file whose server is away.
type commandLines struct {
	read  func(pid int) ([]byte, error)
	limit time.Duration

	mu    sync.Mutex
	stuck map[int]bool // by PID: a read of it has exceeded the limit, and continues
}

// ofMachine are shared by all searches, so that a process holds up one of them, and
// one thread.
var ofMachine = newCommandLines(commandline.Read, commandLineLimit)

func newCommandLines(read func(pid int) ([]byte, error), limit time.Duration) *commandLines {
	return &commandLines{read: read, limit: limit, stuck: map[int]bool{}}
}

// lineRead is a read of a process's command line.
type lineRead struct {
	of      foundProcess
	done    chan struct{} // closed once the following are set
	command []byte
	err     error
}

// find finds processes of our own PID namespace, which no container has unless it
// asks for it, by their command lines: arguments, each followed by a NUL. One that
// cannot be read in time is none of ours, which do not map files of users.
func (c *commandLines) find(wanted func(command []byte) bool, candidates []string) (found []foundProcess) {
	take := func(read *lineRead) {
		if read.err == nil && wanted(read.command) {
			found = append(found, read.of)
		} else {
			unix.Close(read.of.pidfd)
		}
	}
	var late []*lineRead
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
		if c.isStuck(pid) || isElsewhere(pid) {
			unix.Close(pidfd)
			continue
		}
		read := c.begin(foundProcess{pid, pidfd})
		select {
		case <-read.done:
			take(read)
		case <-time.After(promptly):
			late = append(late, read)
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	for _, read := range late {
		select {
		case <-read.done:
			take(read)
		case <-limit.Done():
			c.abandon(read)
		}
	}
	return found
}

func (c *commandLines) begin(of foundProcess) *lineRead {
	read := &lineRead{of: of, done: make(chan struct{})}
	go func() {
		command, err := c.read(of.pid)
		c.mu.Lock()
		defer c.mu.Unlock()
		read.command, read.err = command, err
		delete(c.stuck, of.pid)
		close(read.done)
	}()
	return read
}

// abandon leaves a read to itself.
func (c *commandLines) abandon(read *lineRead) {
	unix.Close(read.of.pidfd)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-read.done: // just now
	default:
		c.stuck[read.of.pid] = true
	}
}

func (c *commandLines) isStuck(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck[pid]
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
