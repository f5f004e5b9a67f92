// Package mounts mounts and unmounts the file systems of containers.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Overlay describes an overlay mount. Without Upper it is read-only.
type Overlay struct {
	Lower []string // directories, top first; at least one
	Upper string
	Work  string // empty directory on Upper's file system
}

// overlayFeatures keep the upper layer plain, so that it can be read as the
// container's changes: no redirects, no metadata-only copies, no index. A kernel
// that lacks one of them refuses its name.
var overlayFeatures = [][2]string{{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}}

// withoutLowerPlus records that this kernel (before 6.7) accepts lower
// directories only as one option string.
var withoutLowerPlus atomic.Bool

// Mount mounts the overlay at target, an existing directory.
func (o Overlay) Mount(target string) error {
	if len(o.Lower) == 0 {
		return errors.New("mount overlay: no lower directory")
	}
	fd, err := o.openBest()
	if err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", len(o.Lower), err)
	}
	defer unix.Close(fd)
	return Attach(fd, target)
}

func (o Overlay) openBest() (int, error) {
	if len(o.Lower) == 1 && o.Upper == "" { // an overlay needs two directories
		return cloneReadOnly(o.Lower[0])
	}
	if !withoutLowerPlus.Load() {
		fd, err := o.open()
		if !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
	}
	fd, err := o.openRelative()
	if err == nil {
		withoutLowerPlus.Store(true)
	}
	return fd, err
}

// open creates a detached overlay.
func (o Overlay) open() (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	// Shown by mount(8) and /proc/mounts.
	if err := unix.FsconfigSetString(fs, "source", "overlay"); err != nil {
		return -1, err
	}
	for _, feature := range overlayFeatures {
		if err := unix.FsconfigSetString(fs, feature[0], feature[1]); err != nil && !errors.Is(err, unix.EINVAL) {
			return -1, fmt.Errorf("%s=%s: %w", feature[0], feature[1], err)
		}
	}
	for _, lower := range o.Lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", lower); err != nil {
			return -1, withLog(fs, err)
		}
	}
	if o.Upper != "" {
		if err := unix.FsconfigSetString(fs, "upperdir", o.Upper); err != nil {
			return -1, withLog(fs, err)
		}
		if err := unix.FsconfigSetString(fs, "workdir", o.Work); err != nil {
			return -1, withLog(fs, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, withLog(fs, err)
	}
	attributes := 0
	if o.Upper == "" {
		attributes = unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, withLog(fs, err)
	}
	return fd, nil
}

// openRelative names the directories relative to the layers' common parent: a
// parameter has at most 255 bytes in older kernels' fsconfig, and a page in
// mount(2), too little for 127 absolute paths.
func (o Overlay) openRelative() (int, error) {
	base := filepath.Dir(filepath.Dir(o.Lower[len(o.Lower)-1]))
	var failed error
	relative := func(directory string) string {
		name, err := filepath.Rel(base, directory)
		failed = errors.Join(failed, err)
		return strings.ReplaceAll(name, ":", `\:`)
	}
	names := make([]string, len(o.Lower))
	for i, lower := range o.Lower {
		names[i] = relative(lower)
	}
	options := "lowerdir=" + strings.Join(names, ":")
	if o.Upper != "" {
		options += ",upperdir=" + relative(o.Upper) + ",workdir=" + relative(o.Work)
	}
	if failed != nil {
		return -1, failed
	}
	return mountInDirectory(base, options, o.Upper == "")
}

// cloneReadOnly returns a detached read-only mount of the directory.
func cloneReadOnly(directory string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, directory, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &os.PathError{Op: "open tree", Path: directory, Err: err}
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "make read-only", Path: directory, Err: err}
	}
	return fd, nil
}

// Attach attaches a detached mount. On a shared mount, as all are with systemd,
// other mount namespaces get a copy; it stays shared, so that Unmount reaches
// those too.
func Attach(fd int, target string) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return &os.PathError{Op: "attach mount", Path: target, Err: err}
	}
	return nil
}

// withLog adds the kernel's messages about a refused file system configuration.
func withLog(fs int, err error) error {
	buffer := make([]byte, 1024)
	var messages []string
	for range 8 {
		n, readErr := unix.Read(fs, buffer)
		if readErr != nil || n <= 0 {
			break
		}
		messages = append(messages, strings.TrimSpace(string(buffer[:n])))
	}
	if len(messages) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(messages, "; "))
}

// DropCaches makes an overlay release files that nobody has open: while it is
// mounted a second time, deleted ones would keep their space. A missing mount is
// not an error.
func DropCaches(target string) error {
	err := unix.Mount("", target, "", unix.MS_REMOUNT, "") // drops the kernel's caches of it
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remount", Path: target, Err: err}
	}
	return nil
}

// Unmount detaches the mount at target, even while it is in use. A missing mount
// or path is not an error.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unmount", Path: target, Err: err}
	}
	return nil
}

// IsMountPoint reports whether path is a mount point; a missing path is not.
func IsMountPoint(path string) (bool, error) {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &stat)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
