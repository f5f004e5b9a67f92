package confined

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// mostNames bounds the names of a path that is resolved: each directory on the way
// is opened from the root.
const mostNames = 255

var errTooManyNames = fmt.Errorf("a path of more than %d names", mostNames)

// Resolve follows the links of a path inside the root, as far as it exists, and
// returns the resulting absolute path, without links and `..`. A path for which
// covered returns true, such as a mount's, and those beneath it are taken
// literally. Paths of more than 255 names are refused.
func (r *Root) Resolve(name string, covered func(name string) bool) (string, error) {
	walk := walk{root: int(r.dir.Fd()), pending: elements(name)}
	const nothing = math.MaxInt
	unseen := nothing // beneath this many names is nothing that can be looked at
	for len(walk.pending) > 0 {
		if len(walk.done)+len(walk.pending) > mostNames {
			return "", errTooManyNames
		}
		element := walk.pending[0]
		walk.pending = walk.pending[1:]
		if element == ".." {
			if walk.done = walk.done[:max(0, len(walk.done)-1)]; len(walk.done) < unseen {
				unseen = nothing
			}
			continue
		}
		if len(walk.done) < unseen {
			found, err := walk.look(element, covered)
			if err != nil {
				return "", err
			}
			if found == link {
				continue
			}
			if found == end {
				unseen = len(walk.done) + 1
			}
		}
		walk.done = append(walk.done, element)
	}
	return "/" + strings.Join(walk.done, "/"), nil
}

// kind is what the next element of a path is.
type kind int

const (
	plain kind = iota
	link       // is followed
	end        // covered or missing
)

func (w *walk) look(element string, covered func(name string) bool) (kind, error) {
	directory := strings.Join(w.done, "/")
	if covered(strings.TrimSuffix("/"+directory, "/") + "/" + element) {
		return end, nil
	}
	parent, err := openIn(w.root, directory, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return end, nil
	}
	if err != nil {
		return end, err
	}
	defer unix.Close(parent)
	var stat unix.Stat_t
	err = unix.Fstatat(parent, element, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return end, nil
	}
	if err != nil || stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return plain, err
	}
	return link, w.follow(parent, element)
}
