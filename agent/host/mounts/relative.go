package mounts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountInDirectory mounts an overlay by mount(2) with option paths relative to
// directory, and returns it as a detached mount. It runs on its own thread,
// because threads share the working directory.
func mountInDirectory(directory, options string, readOnly bool) (int, error) {
	return onThread(func() (int, error) { return mountOnThisThread(directory, options, readOnly) })
}

func mountOnThisThread(directory, options string, readOnly bool) (int, error) {
	if err := leaveMachine(); err != nil { // which hides the mount until its clone is attached
		return -1, err
	}
	if err := unix.Chdir(directory); err != nil {
		return -1, &os.PathError{Op: "chdir", Path: directory, Err: err}
	}
	flags := uintptr(0)
	if readOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", "/proc", "overlay", flags, options); err != nil {
		return -1, fmt.Errorf("mount: %w", err)
	}
	return unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}
