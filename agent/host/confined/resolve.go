package confined

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Resolve follows the links of a path inside the root, as far as it exists, and
// returns the resulting absolute path, without links and `..`. An element for
// which covered returns true is taken literally.
func (r *Root) Resolve(name string, covered func(name string) bool) (string, error) {
	walk := walk{root: int(r.dir.Fd()), pending: elements(name)}
	for len(walk.pending) > 0 {
		element := walk.pending[0]
		walk.pending = walk.pending[1:]
		if element == ".." {
			walk.done = walk.done[:max(0, len(walk.done)-1)]
			continue
		}
		if !covered("/" + strings.Join(append(walk.done[:len(walk.done):len(walk.done)], element), "/")) {
			followed, err := walk.followLink(element)
			if err != nil {
				return "", err
			}
			if followed {
				continue
			}
		}
		walk.done = append(walk.done, element)
	}
	return "/" + strings.Join(walk.done, "/"), nil
}

// followLink reports whether the next element is a link; a missing one is not.
func (w *walk) followLink(element string) (bool, error) {
	parent, err := openIn(w.root, strings.Join(w.done, "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(parent)
	var stat unix.Stat_t
	err = unix.Fstatat(parent, element, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil || stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return false, err
	}
	return true, w.follow(parent, element)
}
