package confined

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveTree deletes element of the directory parent recursively, without
// following links. A missing one is not an error.
//
// It holds two descriptors at any depth: a hostile image or container can nest
// deeper than descriptor or path limits allow. It climbs by "..", so nothing may
// move directories of the tree meanwhile.
func RemoveTree(parent int, element string) error {
	err := unix.Unlinkat(parent, element, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	current, err := openDirectory(parent, element)
	if err != nil {
		return err
	}
	defer func() { unix.Close(current) }()
	names := []string{element}
	for {
		next, err := removeEntries(current)
		if err != nil {
			return err
		}
		step := next
		if next == "" {
			step = ".."
		}
		opened, err := openDirectory(current, step)
		if err != nil {
			return err
		}
		unix.Close(current)
		current = opened
		if next != "" {
			names = append(names, next)
			continue
		}
		last := names[len(names)-1]
		names = names[:len(names)-1]
		if err := unix.Unlinkat(current, last, unix.AT_REMOVEDIR); err != nil {
			return err
		}
		if len(names) == 0 {
			return nil
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
