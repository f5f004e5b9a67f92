package archive

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Layers is a container's root file system as its overlay's directories. Reading
// them without the overlay keeps mounts on top of it out of the way.
type Layers struct {
	Upper string   // what the container changed
	Lower []string // the image, top first
}

// opaque marks a directory that hides the layers beneath it.
const opaque = "trusted.overlay.opaque"

// level is one directory of an overlay: one open directory for each layer that
// has it, top first.
type level []int

// openLevel opens the roots of layers.
func openLevel(directories []string) (level, error) {
	var opened level
	for _, name := range directories {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			opened.close()
			return nil, fmt.Errorf("open layer: %w", &os.PathError{Op: "open", Path: name, Err: err})
		}
		opened = append(opened, fd)
	}
	return opened, nil
}

func (l level) close() {
	for _, fd := range l {
		unix.Close(fd)
	}
}

// find returns the layer that shows a name, and its metadata; -1: absent or
// hidden.
func (l level) find(name string, st *unix.Stat_t) (layer int, err error) {
	for i, fd := range l {
		err := unix.Fstatat(fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return -1, pathError("lstat", name, err)
		case isWhiteout(st):
			return -1, nil
		default:
			return i, nil
		}
	}
	return -1, nil
}

// descend opens the directory that the level shows under a name; empty if that is
// not a directory (any more).
func (l level) descend(name string) (level, error) {
	var below level
	for _, fd := range l {
		child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // a file or a whiteout hides the rest
			break
		}
		if err != nil {
			below.close()
			return nil, pathError("open", name, err)
		}
		below = append(below, child)
		if isOpaque(child) {
			break
		}
	}
	return below, nil
}

// eachName visits the names that the level shows, layer by layer.
func (l level) eachName(visit func(layer int, name string, st *unix.Stat_t) error) error {
	for i, fd := range l {
		err := eachNameIn(fd, func(name string) error {
			var st unix.Stat_t
			layer, err := l.find(name, &st)
			if err != nil || layer != i {
				return err
			}
			return visit(i, name, &st)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func eachNameIn(fd int, visit func(name string) error) error {
	directory, err := openNames(fd)
	if err != nil {
		return err
	}
	defer directory.Close()
	for {
		names, err := someNames(directory)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := visit(name); err != nil {
				return err
			}
		}
	}
}

// HasDirectory reports whether layers, top first, show a directory at a path
// without links.
func HasDirectory(layers []string, name string) (bool, error) {
	at, err := openLevel(layers)
	for _, element := range strings.Split(path.Clean("/"+name), "/") {
		if err != nil || len(at) == 0 {
			break
		}
		if element == "" {
			continue
		}
		var below level
		below, err = at.descend(element)
		at.close()
		at = below
	}
	at.close()
	return len(at) > 0, err
}

// isWhiteout recognises overlayfs's mark of a deleted name.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(fd int) bool {
	var value [8]byte
	n, err := unix.Fgetxattr(fd, opaque, value[:])
	return err == nil && string(value[:n]) == "y"
}

// stillThere returns an error if the container was removed during the read, so
// that the result may be incomplete.
func (l Layers) stillThere() error {
	if _, err := os.Lstat(l.Upper); err != nil {
		return &failure{ErrNotFound, "the container was removed meanwhile", err}
	}
	return nil
}
