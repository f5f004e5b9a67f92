package confined

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errMoved means that the rest of a tree cannot be found: its directory was moved.
var errMoved = errors.New("a directory was moved while its tree was removed")

// entered is a directory that RemoveTree has gone into.
type entered struct {
	name   string
	parent identity
}

// identity is a file's, as long as it is open.
type identity struct{ device, inode uint64 }

func identityOf(fd int) (identity, error) {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	return identity{stat.Dev, stat.Ino}, err
}

// RemoveTree deletes element of the directory parent recursively, without
// following links. A missing one is not an error.
//
// It holds two descriptors at any depth: a hostile image or container can nest
// deeper than descriptor or path limits allow. It climbs by "..", and no further
// than from where it came: a container may move directories of the tree meanwhile.
func RemoveTree(parent int, element string) error {
	err := unix.Unlinkat(parent, element, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	current, err := unix.FcntlInt(uintptr(parent), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(current) }()
	var path []entered
	for next := element; ; {
		step := next
		if next == "" {
			step = ".."
		}
		from, err := identityOf(current)
		if err != nil {
			return err
		}
		opened, err := openDirectory(current, step)
		if err != nil {
			return err
		}
		unix.Close(current)
		current = opened
		if next != "" {
			path = append(path, entered{next, from})
		} else {
			last := path[len(path)-1]
			path = path[:len(path)-1]
			if now, err := identityOf(current); err != nil {
				return err
			} else if now != last.parent {
				return errMoved
			}
			if err := unix.Unlinkat(current, last.name, unix.AT_REMOVEDIR); err != nil {
				return err
			}
			if len(path) == 0 {
				return nil
			}
		}
		if next, err = removeEntries(current); err != nil {
			return err
		}
	}
}

// RemovePath is RemoveTree for a trusted path.
func RemovePath(name string) error {
	parent, err := unix.Open(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := RemoveTree(parent, filepath.Base(name)); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// removeEntries deletes files and empty directories, and returns the name of a
// directory that is not empty, if any.
func removeEntries(directory int) (string, error) {
	fd, err := unix.Openat(directory, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buffer := make([]byte, 32<<10)
	removed := false
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil {
			return "", err
		}
		if n == 0 && !removed {
			return "", nil
		}
		if n == 0 { // removals may have hidden entries from this pass: repeat it
			if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
				return "", err
			}
			removed = false
			continue
		}
		_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
		for _, name := range names {
			full, err := removeEntry(fd, name)
			if err != nil {
				return "", err
			}
			if full {
				return name, nil
			}
			removed = true
		}
	}
}

func removeEntry(directory int, name string) (full bool, err error) {
	err = unix.Unlinkat(directory, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(directory, name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			return true, nil
		}
	}
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return false, err
}

func openDirectory(parent int, element string) (int, error) {
	return unix.Openat(parent, element, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
