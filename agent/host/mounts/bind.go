package mounts

import (
	"os"

	"golang.org/x/sys/unix"
)

// Bind binds source, with the mounts beneath it, to target, which may be a
// /proc/self/fd path.
func Bind(source, target string, readOnly bool) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return &os.PathError{Op: "open tree", Path: source, Err: err}
	}
	defer unix.Close(tree)
	// Private, so that an unmount here does not reach the source.
	attributes := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attributes.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		return &os.PathError{Op: "set mount attributes", Path: source, Err: err}
	}
	return Attach(tree, target)
}

// SetReadOnly makes the mount at target read-only, but no mounts beneath it.
func SetReadOnly(target string) error {
	if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return &os.PathError{Op: "set mount attributes", Path: target, Err: err}
	}
	return nil
}
