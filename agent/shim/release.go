package shim

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
)

// letExecute lets the process of a created container execute its command, as
// `runc start` does, without a process for it. That process waits to open a
// FIFO for writing; it goes on when there is a reader, says so by a byte, and
// the FIFO's absence is what makes the container "running" to runc. Hooks, the
// other work of `runc start`, are refused when a container is launched.
//
// errRuntimeOnly: nothing was done, it is not runc or not as it is known.
func (r *ociRuntime) letExecute(main *children.Child) error {
	if filepath.Base(r.path) != "runc" {
		return runtimeOnly("another runtime than runc")
	}
	pidfd, err := unix.PidfdOpen(main.PID(), 0)
	if err != nil {
		return runtimeOnly(err.Error())
	}
	defer unix.Close(pidfd)
	fifo := filepath.Join(r.root, r.container, "exec.fifo")
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return runtimeOnly(err.Error())
	}
	defer unix.Close(fd)
	// Without a writer so far there is neither data nor a hang-up.
	wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(wait, -1); err == nil {
			break
		} else if err != unix.EINTR {
			return fmt.Errorf("wait for the container's process: %w", err)
		}
	}
	if n, err := unix.Read(fd, make([]byte, 1)); err != nil || n == 0 {
		return runtimeOnly("the container's process does not wait") // it has ended, which the runtime words
	}
	if err := os.Remove(fifo); err != nil {
		return fmt.Errorf("tell the runtime that the container runs: %w", err)
	}
	return nil
}
