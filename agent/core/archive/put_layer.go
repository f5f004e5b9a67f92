package archive

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/removal"
)

// opaqueWhiteout marks, in an OCI layer, a directory that hides the layers
// beneath it.
const opaqueWhiteout = whiteoutPrefix + whiteoutPrefix + ".opq"

// Touches reports whether a path, absolute and clean, is not the container's own
// or lies beneath such a path.
func (b Bounds) Touches(name string) bool {
	for ; name != "/"; name = path.Dir(name) {
		if b.Mounts[name] || b.Hidden[name] {
			return true
		}
	}
	return false
}

// extractFromLayer handles the entries of a layer that create no file: whiteouts
// delete files, and what is not the container's own stays. done: nothing is left
// to create.
func (x *extractor) extractFromLayer(full string) (done bool, err error) {
	hidden, isWhiteout := strings.CutPrefix(path.Base(full), whiteoutPrefix)
	if !isWhiteout {
		if x.options.Layer.Touches(full) {
			return true, nil
		}
		for name := full; name != "/" && !x.made[name]; name = path.Dir(name) {
			x.made[name] = true
		}
		return false, nil
	}
	directory := path.Dir(full)
	gone := path.Join(directory, hidden)
	if path.Base(full) == opaqueWhiteout {
		gone = directory
	} else if hidden == "" || hidden == "." || hidden == ".." {
		return false, badStream("%q is no whiteout", full)
	}
	if x.options.Layer.Touches(gone) {
		return true, nil
	}
	fd, err := x.root.openDir(directory)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return true, nil
	}
	if err != nil {
		return false, pathError("open", directory, err)
	}
	defer unix.Close(fd)
	if gone == directory {
		return true, x.clearBeneath(fd, directory)
	}
	if err := removal.Tree(fd, hidden); err != nil {
		return false, pathError("unlinkat", gone, err)
	}
	return true, nil
}

// clearBeneath removes the content of an open directory, except what this layer
// has created.
func (x *extractor) clearBeneath(fd int, directory string) error {
	names, err := namesOf(fd)
	if err != nil {
		return pathError("read directory", directory, err)
	}
	for _, name := range names {
		full := path.Join(directory, name)
		if x.options.Layer.Touches(full) {
			continue
		}
		if !x.made[full] {
			if err := removal.Tree(fd, name); err != nil {
				return pathError("unlinkat", full, err)
			}
			continue
		}
		below, err := openDirectoryAt(fd, name)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return pathError("open", full, err)
		}
		err = x.clearBeneath(below, full)
		unix.Close(below)
		if err != nil {
			return err
		}
	}
	return nil
}
