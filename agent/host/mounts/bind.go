package mounts

import (
	"os"

	"golang.org/x/sys/unix"
)

// Clone returns a detached mount of an open file or directory, with the mounts
// beneath it. Closing it unmounts it, unless it is attached.
func Clone(source *os.File, readOnly bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE | unix.AT_EMPTY_PATH)
	fd, err := unix.OpenTree(int(source.Fd()), "", flags)
	if err != nil {
		return nil, &os.PathError{Op: "open tree", Path: source.Name(), Err: err}
	}
	tree := os.NewFile(uintptr(fd), source.Name())
	// Private, so that an unmount here does not reach the source.
	attributes := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attributes.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		tree.Close()
		return nil, &os.PathError{Op: "set mount attributes", Path: source.Name(), Err: err}
	}
	return tree, nil
}

// AttachTo attaches a detached mount to an open file or directory.
func AttachTo(fd, target int) error {
	err := unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("attach mount", err)
}

// SetReadOnly makes an open mount read-only, but no mounts beneath it.
func SetReadOnly(fd int) error {
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return os.NewSyscallError("set mount attributes", err)
}
