package archive

import (
	"errors"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// givenDirectories and givenFiles are created in every container, whether or not
// its image has them, and so never count as the container's changes.
var (
	givenDirectories = []string{"/dev", "/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"}
	givenFiles       = []string{"/.dockerenv", console, "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
)

// mountTable is a link through which programs read the mounts.
const (
	mountTable       = "/etc/mtab"
	mountTableTarget = "/proc/mounts"
)

// console is where a terminal is bound.
const console = "/dev/console"

// LayOver makes, in a directory of its own, the layer of files that a container
// gets on top of its image, like dockerd's init layer: mount points that every
// container has become real directories and files, wherever the image's links
// lead. Directories keep the image's metadata, and hide whatever else the image
// has there. It may be repeated. Errors leave a partial layer.
func LayOver(directory string, image []string) error {
	root, err := openLevel(image)
	if err != nil {
		return err
	}
	defer root.close()
	top, err := unix.Open(directory, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: directory, Err: err}
	}
	defer unix.Close(top)
	return createGivenEntries(top, root, "/")
}

// createGivenEntries creates the given entries of one directory, and their content.
func createGivenEntries(directory int, image level, name string) error {
	for _, given := range givenDirectories {
		if path.Dir(given) != name {
			continue
		}
		if err := layBeneath(directory, image, given); err != nil {
			return pathError("make", given, err)
		}
	}
	for _, given := range append(givenFiles, mountTable) {
		if path.Dir(given) != name {
			continue
		}
		var known unix.Stat_t
		layer, err := image.find(path.Base(given), &known)
		if err == nil && (layer < 0 || known.Mode&unix.S_IFMT != unix.S_IFDIR) {
			err = createGivenFile(directory, given)
		}
		if err != nil {
			return pathError("make", given, err)
		}
	}
	return nil
}

func layBeneath(parent int, image level, name string) error {
	base := path.Base(name)
	st := unix.Stat_t{Mode: unix.S_IFDIR | 0o755}
	layer, err := image.find(base, &st)
	if err != nil {
		return err
	}
	known := layer >= 0 && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !known {
		st = unix.Stat_t{Mode: unix.S_IFDIR | 0o755}
	}
	beneath, err := image.descend(base)
	if err != nil {
		return err
	}
	defer beneath.close()
	fd, err := makeDirectoryAt(parent, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := createGivenEntries(fd, beneath, name); err != nil {
		return err
	}
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	if !known {
		return nil
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func makeDirectoryAt(parent int, name string) (int, error) {
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return openDirectoryAt(parent, name)
}

// createGivenFile creates an empty file, or the given link.
func createGivenFile(parent int, name string) error {
	if name == mountTable {
		if err := unix.Symlinkat(mountTableTarget, parent, path.Base(name)); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	}
	fd, err := unix.Openat(parent, path.Base(name), unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, 0o755) // whatever our umask
}

// RestoreMountPoints makes the paths that every container has mounts on real
// directories again, if an earlier run has replaced them. root is the mounted
// root; nothing runs in it.
func RestoreMountPoints(root int) error {
	for _, name := range []string{"/dev", "/proc", "/sys"} {
		if err := restoreMountPoint(root, name); err != nil {
			return pathError("restore", name, err)
		}
	}
	return nil
}

func restoreMountPoint(root int, name string) error {
	base := path.Base(name)
	var now unix.Stat_t
	err := unix.Fstatat(root, base, &now, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && now.Mode&unix.S_IFMT == unix.S_IFDIR:
		return nil
	case err == nil:
		err = unix.Unlinkat(root, base, 0)
	case errors.Is(err, unix.ENOENT):
		err = nil
	}
	if err != nil {
		return err
	}
	return layBeneath(root, nil, name)
}

// addedUnlessOurs reports a file that the image does not have.
func addedUnlessOurs(name string, now *unix.Stat_t) ChangeKind {
	switch now.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if slices.Contains(givenDirectories, name) {
			return 0
		}
	case unix.S_IFREG:
		if slices.Contains(givenFiles, name) {
			if now.Size == 0 {
				return 0
			}
			return Modified
		}
	}
	return Added
}

// isGiven reports whether a file opened with O_PATH is one that every container
// gets, recreated by RestoreMountPoints or by an earlier version.
func isGiven(name string, fd int, now *unix.Stat_t) bool {
	switch name {
	case console:
		return now.Mode&unix.S_IFMT == unix.S_IFREG && now.Size == 0
	case mountTable:
		target, err := openat.ReadLink(fd, "")
		return err == nil && target == mountTableTarget
	}
	return false
}
