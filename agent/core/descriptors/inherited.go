// Package descriptors closes descriptors that a process must not inherit or pass
// on, and waits until one is readable.
package descriptors

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// standard are stdin, stdout and stderr.
const standard = 3

// CloseInherited closes every inherited descriptor except the standard streams
// and those to keep, and marks the latter close-on-exec. Call it before starting
// anything: Go opens everything close-on-exec, so whatever survived this
// process's own exec was inherited.
func CloseInherited(kept ...int) error {
	// All threads of the process share these.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("find inherited descriptors: %w", err)
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < standard {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		switch {
		case err != nil: // the directory's own descriptor, closed by now
		case flags&unix.FD_CLOEXEC != 0:
		case slices.Contains(kept, fd):
			unix.CloseOnExec(fd)
		default:
			_ = unix.Close(fd) // freed even if it fails
		}
	}
	return nil
}
