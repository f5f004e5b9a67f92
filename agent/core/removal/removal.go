// Package removal deletes trees that a container may have filled, and may change
// meanwhile.
package removal

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errMoved means that the rest of a tree cannot be found: its directory was moved.
var errMoved = errors.New("a directory was moved while its tree was removed")

// keptLevels is how many of the innermost directories keep the names of what is
// to be emptied in them: a container nests as deep as it likes.
const keptLevels = 64

// level is a directory on the way to the current one.
type level struct {
	itself identity
	// full are directories of the block that was read last, yet to be emptied. The
	// last of them is on the way.
	full []string
	// next is where reading continues.
	next int64
	// block is where the last block began, which is read again once full was
	// forgotten.
	block int64
	// removed means that something was removed since reading began.
	removed bool
}

// identity is a file's, as long as it is open.
type identity struct{ device, inode uint64 }

func identityOf(fd int) (identity, error) {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	return identity{stat.Dev, stat.Ino}, err
}

// Tree deletes element of the directory parent recursively, without
// following links. A missing one is not an error.
//
// It holds two descriptors at any depth, takes a time that grows with the number of
// files alone, and little memory for each level: a hostile image or container can
// nest deeper than descriptor or path limits allow, and fill directories. It climbs
// by "..", and no further than from where it came: a container may move directories
// of the tree meanwhile.
func Tree(parent int, element string) error {
	err := unix.Unlinkat(parent, element, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	current, err := unix.FcntlInt(uintptr(parent), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r := removal{current: current, buffer: make([]byte, 32<<10)}
	defer func() { unix.Close(r.current) }()
	if err := r.push(); err != nil {
		return err
	}
	r.levels[0].full = []string{element}
	return r.run()
}

// removal is the work of Tree. Its first level is the parent, of which only the
// element is removed.
type removal struct {
	current int
	levels  []level
	buffer  []byte
}

func (r *removal) run() error {
	for {
		top := &r.levels[len(r.levels)-1]
		var err error
		switch {
		case len(top.full) > 0:
			err = r.descend(top)
		case len(r.levels) == 1:
			return nil
		default:
			var emptied bool
			if emptied, err = r.removeBlock(top); emptied && err == nil {
				err = r.climb()
			}
		}
		if err != nil {
			return err
		}
	}
}

// descend goes into the last full directory.
func (r *removal) descend(top *level) error {
	err := r.open(top.full[len(top.full)-1])
	if errors.Is(err, unix.ENOENT) {
		top.full = top.full[:len(top.full)-1]
		return nil
	}
	if err != nil {
		return err
	}
	if outer := len(r.levels) - keptLevels; outer > 0 {
		r.levels[outer].forget()
	}
	return r.push()
}

// forget keeps only the name of the directory on the way.
func (l *level) forget() {
	l.full = []string{l.full[len(l.full)-1]}
	l.next = l.block
}

// climb returns from an emptied directory and removes it.
func (r *removal) climb() error {
	if err := r.open(".."); err != nil {
		return err
	}
	r.levels = r.levels[:len(r.levels)-1]
	top := &r.levels[len(r.levels)-1]
	if now, err := identityOf(r.current); err != nil {
		return err
	} else if now != top.itself {
		return errMoved
	}
	last := len(top.full) - 1
	if err := unix.Unlinkat(r.current, top.full[last], unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	top.full, top.removed = top.full[:last], true
	return nil
}

// push makes the current directory the innermost level.
func (r *removal) push() error {
	itself, err := identityOf(r.current)
	r.levels = append(r.levels, level{itself: itself})
	return err
}

func (r *removal) open(step string) error {
	opened, err := openDirectory(r.current, step)
	if err != nil {
		return err
	}
	unix.Close(r.current)
	r.current = opened
	return nil
}

// Path is Tree for a trusted path.
func Path(name string) error {
	parent, err := unix.Open(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := Tree(parent, filepath.Base(name)); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// removeBlock deletes the files and empty directories of the next block of the
// current directory and notes the full ones. emptied: nothing is left in it.
func (r *removal) removeBlock(top *level) (emptied bool, err error) {
	if _, err := unix.Seek(r.current, top.next, unix.SEEK_SET); err != nil {
		return false, err
	}
	top.block = top.next
	n, err := unix.ReadDirent(r.current, r.buffer)
	if err != nil {
		return false, err
	}
	if n == 0 {
		// Removals may have hidden entries from this pass: repeat it.
		emptied, top.next, top.removed = !top.removed, 0, false
		return emptied, nil
	}
	if top.next, err = unix.Seek(r.current, 0, unix.SEEK_CUR); err != nil {
		return false, err
	}
	_, _, names := unix.ParseDirent(r.buffer[:n], -1, nil)
	for _, name := range names {
		full, err := removeEntry(r.current, name)
		if err != nil {
			return false, err
		}
		if full {
			top.full = append(top.full, name)
		} else {
			top.removed = true
		}
	}
	return false, nil
}

func removeEntry(directory int, name string) (full bool, err error) {
	err = unix.Unlinkat(directory, name, 0)
	if errors.Is(err, unix.EISDIR) {
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
