package shim

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/commandline"
	"github.com/sockerless/sockerless/agent/core/descriptors"
)

// executeLimit bounds the time until the runtime's process is ready to execute
// the command. It reads the container's /etc/passwd first, which may be a pipe in
// a volume, or the kernel's log, and would block a start and the removal behind
// it.
const executeLimit = time.Minute

// programLimit bounds the execution itself, which a volume with a lost server can
// block, before the start is answered anyway.
const programLimit = 10 * time.Second

// executionPoll is short compared with an execution, which takes about a
// millisecond.
const executionPoll = 100 * time.Microsecond

// letExecute lets the process of a created container execute its command, as
// `runc start` does, but without a process for it. That process waits to open a
// FIFO for writing; it continues once there is a reader and writes a byte; to
// runc the FIFO's absence means that the container is "running". Hooks, the other
// work of `runc start`, are refused at the launch.
//
// It returns once the command is executed: an earlier signal would end the
// runtime instead of the command.
//
// errRuntimeOnly: nothing was done, because the runtime is not runc or behaves
// differently.
func (r *ociRuntime) letExecute(main *children.Child) error {
	if filepath.Base(r.path) != "runc" {
		return runtimeOnly("another runtime than runc")
	}
	pidfd, err := unix.PidfdOpen(main.PID(), 0)
	if err != nil {
		return runtimeOnly(err.Error())
	}
	defer unix.Close(pidfd)
	// Read before the FIFO is opened: after that it may execute at any time.
	runtimes, err := commandline.Read(main.PID())
	if err != nil {
		return runtimeOnly(err.Error())
	}
	fifo := filepath.Join(r.root, r.container, "exec.fifo")
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return runtimeOnly(err.Error())
	}
	defer unix.Close(fd)
	// Before the first writer there is neither data nor a hang-up.
	if err := awaitReadable(executeLimit, fd, pidfd); err != nil {
		return fmt.Errorf("wait for the container's process: %w", err)
	}
	if n, err := unix.Read(fd, make([]byte, 1)); err != nil || n == 0 {
		return runtimeOnly("the container's process does not wait") // it has ended: the runtime words the error
	}
	if err := os.Remove(fifo); err != nil {
		return fmt.Errorf("tell the runtime that the container runs: %w", err)
	}
	if err := awaitExecution(fd, pidfd, main.PID(), runtimes); err != nil {
		slog.Warn("the container's command is not yet executed", "error", err)
	}
	return nil
}

// awaitExecution waits until a process has another command line than the
// runtime's, or has ended. Just before, or by it, its end of the FIFO closes.
func awaitExecution(fifo, pidfd, pid int, runtimes []byte) error {
	deadline := time.Now().Add(programLimit)
	if err := awaitReadable(programLimit, fifo, pidfd); err != nil {
		return err
	}
	for {
		now, err := commandline.Read(pid)
		if err != nil || !bytes.Equal(now, runtimes) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not come to its command within %s", programLimit)
		}
		time.Sleep(executionPoll)
	}
}

// awaitReadable waits until one of the descriptors is readable, or fails after
// limit.
func awaitReadable(limit time.Duration, fds ...int) error {
	ready, err := descriptors.Readable(limit, fds...)
	if err == nil && !ready {
		return fmt.Errorf("it does not come to its command within %s", limit)
	}
	return err
}
