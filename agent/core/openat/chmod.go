package openat

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Chmod changes the mode of a directory entry without opening it, since opening a
// device or a pipe has effects, and without following it: a symlink is ELOOP.
func Chmod(directory int, entry string, mode uint32) error {
	fd, err := unix.Openat(directory, entry, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}
