package archive

import (
	"errors"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// givenDirectories and givenFiles are put into a container whether its image
// has them or not, and so are no change of the container's.
var (
	givenDirectories = []string{"/dev", "/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"}
	givenFiles       = []string{"/.dockerenv", console, "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
)

// mountTable is a link that programs read the mounts by.
const (
	mountTable       = "/etc/mtab"
	mountTableTarget = "/proc/mounts"
)

// console is where a terminal is bound.
const console = "/dev/console"

// LayOver makes, in a directory of its own, the layer of what a container is
// given over its image, as dockerd's init layer: what is mounted in every
// container is mounted on real directories and files, wherever links of the
// image lead. Directories are as the image has them; where it has something else
// they hide that. It may be repeated. Errors leave a part.
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
	return layDirectory(top, root, "/")
}

// layDirectory makes what is given in one directory, and what is beneath.
func layDirectory(directory int, image level, name string) error {
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
			err = layFile(directory, given)
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
	if err := layDirectory(fd, beneath, name); err != nil {
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

// layFile makes an empty file, or the link that is given.
func layFile(parent int, name string) error {
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

// RestoreMountPoints makes real directories again of the paths on which file
// systems are mounted in every container, if an earlier run of this one has put
// something else there. root is the mounted root; nothing runs in it.
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

// addedUnlessOurs tells of a file that the image has not.
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

// isGiven tells of a file opened with O_PATH that it is what containers are
// given there, made anew by RestoreMountPoints or by an earlier version.
func isGiven(name string, fd int, now *unix.Stat_t) bool {
	switch name {
	case console:
		return now.Mode&unix.S_IFMT == unix.S_IFREG && now.Size == 0
	case mountTable:
		target := make([]byte, len(mountTableTarget)+1)
		n, err := unix.Readlinkat(fd, "", target)
		return err == nil && string(target[:n]) == mountTableTarget
	}
	return false
}
