package mounts

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// temporaryAttributes are the options that the kernel has per mount, not per
// file system.
var temporaryAttributes = map[string]int{
	"nosuid": unix.MOUNT_ATTR_NOSUID, "noexec": unix.MOUNT_ATTR_NOEXEC, "nodev": unix.MOUNT_ATTR_NODEV,
}

// Temporary mounts a file system in memory at target, an existing directory,
// with options as mount(8) has them for tmpfs.
func Temporary(target string, options []string) error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", "shm"); err != nil {
		return err
	}
	attributes := 0
	for _, option := range options {
		if attribute, known := temporaryAttributes[option]; known {
			attributes |= attribute
			continue
		}
		name, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fs, name, value); err != nil {
			return withLog(fs, fmt.Errorf("%s: %w", option, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return withLog(fs, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return withLog(fs, err)
	}
	defer unix.Close(fd)
	return attach(fd, target)
}
