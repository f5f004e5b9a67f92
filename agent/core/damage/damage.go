// Package damage tells what a disk has lost from what a process lacks.
package damage

import (
	"errors"

	"golang.org/x/sys/unix"
)

// IsOf reports whether an error is that of a damaged file, and not of this process,
// which may lack descriptors or memory.
func IsOf(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.EISDIR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
