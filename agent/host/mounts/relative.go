package mounts

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// mountInDirectory mounts an overlay by mount(2) with option paths relative to
// directory, and returns it as a detached mount. It runs on its own thread,
// because threads share the working directory.
func mountInDirectory(directory, options string, readOnly bool) (int, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread, with its own working directory and mount
		// namespace, exits with the goroutine.
		runtime.LockOSThread()
		fd, err := mountOnThisThread(directory, options, readOnly)
		done <- result{fd, err}
	}()
	r := <-done
	return r.fd, r.err
}

func mountOnThisThread(directory, options string, readOnly bool) (int, error) {
	// CLONE_NEWNS hides the mount until its clone is attached.
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
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
