package mounts

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// FileSystem describes a file system to mount.
type FileSystem struct {
	Type    string
	Source  string
	Options []string // as mount(8) has them
}

// perMount are options that belong to a mount, not to its file system.
var perMount = map[string]int{
	"nosuid": unix.MOUNT_ATTR_NOSUID, "noexec": unix.MOUNT_ATTR_NOEXEC, "nodev": unix.MOUNT_ATTR_NODEV,
}

// Mount mounts the file system at target, an existing directory.
func (f FileSystem) Mount(target string) error {
	fd, err := f.Open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return Attach(fd, target)
}

// Open mounts the file system detached; closing the root's descriptor unmounts
// it.
func (f FileSystem) Open() (int, error) {
	fs, err := unix.Fsopen(f.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", f.Type, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", f.Source); err != nil {
		return -1, err
	}
	attributes := 0
	for _, option := range f.Options {
		if attribute, known := perMount[option]; known {
			attributes |= attribute
			continue
		}
		if err := set(fs, option); err != nil {
			return -1, withLog(fs, fmt.Errorf("%s: %w", option, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, withLog(fs, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, withLog(fs, err)
	}
	return fd, nil
}

// set sets an option of the file system, with or without a value.
func set(fs int, option string) error {
	name, value, valued := strings.Cut(option, "=")
	if valued {
		return unix.FsconfigSetString(fs, name, value)
	}
	return unix.FsconfigSetFlag(fs, name)
}
