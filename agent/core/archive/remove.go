package archive

import (
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
)

// removeAll removes the name base from the directory parent, recursively. Links
// are removed, not followed.
func removeAll(parent int, base string, depth int) error {
	err := unix.Unlinkat(parent, base, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	fd, openErr := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return err
	}
	defer unix.Close(fd)
	leave, err := levels.Enter(base, depth, 2)
	if err != nil {
		return err
	}
	defer leave()
	if err := removeContent(fd, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, base, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// removeContent empties the directory fd.
func removeContent(fd, depth int) error {
	for {
		dir, err := openNames(fd) // anew: names move when others go
		if err != nil {
			return err
		}
		names, err := someNames(dir)
		dir.Close()
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := removeAll(fd, name, depth+1); err != nil {
				return err
			}
		}
	}
}
