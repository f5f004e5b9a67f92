// Package descriptors is about the descriptors of a process: those that it must
// not hold or hand on of the process that started it, and when one can be read.
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

// CloseInherited closes every descriptor that was inherited, but for the
// standard streams and those that are kept, and has no child inherit the kept
// ones. It is called before anything is started: what is open and survives an
// execution is inherited then, since Go opens everything close-on-exec.
func CloseInherited(kept ...int) error {
	// Those of this process, which are those of all of its threads.
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
		case err != nil: // the directory's own, closed by now
		case flags&unix.FD_CLOEXEC != 0:
		case slices.Contains(kept, fd):
			unix.CloseOnExec(fd)
		default:
			_ = unix.Close(fd) // gone in any case
		}
	}
	return nil
}
