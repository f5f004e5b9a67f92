package archive

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// What a container is given whether its image has it or not, and which is no
// change of the container's therefore.
var (
	givenDirectories = []string{"/dev", "/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"}
	givenFiles       = []string{"/.dockerenv", "/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
)

// mountTable is a link that programs read the mounts by.
const (
	mountTable       = "/etc/mtab"
	mountTableTarget = "/proc/mounts"
)

// GiveMountTable makes /etc/mtab in the writable layer of a new container, as
// Docker does, unless the image has one. /etc stays as the image has it.
func (l Layers) GiveMountTable() error {
	image, err := openLevel(l.Lower)
	if err != nil {
		return err
	}
	defer image.close()
	var etc unix.Stat_t
	layer, err := image.find("etc", &etc)
	if err != nil {
		return err
	}
	if layer < 0 {
		etc = unix.Stat_t{Mode: unix.S_IFDIR | 0o755}
	}
	if etc.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // it leads elsewhere, or nowhere
	}
	inside, err := image.descend("etc")
	if err != nil {
		return err
	}
	defer inside.close()
	var known unix.Stat_t
	if layer, err := inside.find(filepath.Base(mountTable), &known); err != nil || layer >= 0 {
		return err
	}
	directory := filepath.Join(l.Upper, "etc")
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	link := filepath.Join(l.Upper, mountTable)
	if err := os.Symlink(mountTableTarget, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Lchown(directory, int(etc.Uid), int(etc.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(directory, etc.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: directory, Err: err}
	}
	if layer < 0 {
		return nil
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, directory, []unix.Timespec{etc.Atim, etc.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
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

// isGivenMountTable tells of a file opened with O_PATH.
func isGivenMountTable(name string, fd int) bool {
	if name != mountTable {
		return false
	}
	target := make([]byte, len(mountTableTarget)+1)
	n, err := unix.Readlinkat(fd, "", target)
	return err == nil && string(target[:n]) == mountTableTarget
}
