// Package confined works on files beneath a directory with untrusted content: no
// links and `..` in a path lead out of it.
package confined

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// maxLinks bounds the links followed in one path, as the kernel does.
const maxLinks = 40

// Root is an open directory that acts as "/" when paths are resolved.
type Root struct {
	dir *os.File
	// Pause, if not nil, is called between the elements of a path that is made; its
	// error ends that.
	Pause func() error
}

// Open opens the directory at name, a trusted path.
func Open(name string) (*Root, error) {
	dir, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Root{dir: dir}, nil
}

// Directory is the root itself, opened with O_PATH; the Root keeps ownership.
func (r *Root) Directory() *os.File { return r.dir }

// Close releases the directory.
func (r *Root) Close() error { return r.dir.Close() }

// Open opens a path inside the root; the caller closes the descriptor. It follows
// links, except a last element with O_NOFOLLOW.
func (r *Root) Open(name string, flags int, mode uint32) (int, error) {
	return openIn(int(r.dir.Fd()), name, flags, mode)
}

func openIn(root int, name string, flags int, mode uint32) (int, error) {
	if name = strings.TrimLeft(name, "/"); name == "" {
		name = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	return openat.Open(root, name, &how)
}

// MakeDirectories opens the directory name (O_PATH), creating missing elements
// with mode 0755, and the target of a dangling link inside the root. replace, if
// not nil, is called for an element that is not a directory: it may remove it and
// return true.
func (r *Root) MakeDirectories(name string, replace func(parent int, element string) (bool, error)) (int, error) {
	fd, err := r.Open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return fd, err
	}
	walk := walk{root: int(r.dir.Fd()), pending: elements(name), replace: replace, pause: r.Pause}
	resolved, err := walk.run()
	if err != nil {
		return -1, err
	}
	return r.Open(resolved, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// walk resolves a path element by element, creating directories on the way.
type walk struct {
	root    int
	done    []string // resolved: directories, no links
	pending []string
	links   int
	replace func(parent int, element string) (bool, error)
	pause   func() error
}

func (w *walk) run() (string, error) {
	for len(w.pending) > 0 {
		if w.pause != nil {
			if err := w.pause(); err != nil {
				return "", err
			}
		}
		element := w.pending[0]
		w.pending = w.pending[1:]
		if element == ".." {
			w.done = w.done[:max(0, len(w.done)-1)]
			continue
		}
		parent, err := openIn(w.root, strings.Join(w.done, "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return "", err
		}
		err = w.enter(parent, element)
		unix.Close(parent)
		if err != nil {
			return "", err
		}
	}
	return strings.Join(w.done, "/"), nil
}

func (w *walk) enter(parent int, element string) error {
	var stat unix.Stat_t
	err := unix.Fstatat(parent, element, &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		err = makeDirectory(parent, element)
	case err != nil:
	case stat.Mode&unix.S_IFMT == unix.S_IFLNK:
		return w.follow(parent, element)
	case stat.Mode&unix.S_IFMT != unix.S_IFDIR:
		err = unix.ENOTDIR
		if w.replace != nil {
			if replaced, replaceErr := w.replace(parent, element); replaced || replaceErr != nil {
				err = replaceErr
			}
		}
	}
	if err == nil {
		w.done = append(w.done, element)
	}
	return err
}

func makeDirectory(parent int, element string) error {
	if err := unix.Mkdirat(parent, element, 0o755); err != nil {
		return err
	}
	made, err := unix.Openat(parent, element, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return unix.Fchmod(made, 0o755) // whatever our umask
}

func (w *walk) follow(parent int, element string) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	target, err := openat.ReadLink(parent, element)
	if err != nil {
		return err
	}
	if strings.HasPrefix(target, "/") {
		w.done = nil
	}
	w.pending = append(elements(target), w.pending...)
	return nil
}

func elements(name string) []string {
	var found []string
	for element := range strings.SplitSeq(name, "/") {
		if element != "" && element != "." {
			found = append(found, element)
		}
	}
	return found
}

// ErrLeavesRoot means that a name leaves its root by `..`.
var ErrLeavesRoot = errors.New("leads out of its root directory")

// Clean converts an archive's file name to a path relative to the root, "." for
// the root itself. A leading slash means the root. Names with more `..` than
// directories are refused with ErrLeavesRoot as hostile.
func Clean(name string) (string, error) {
	cleaned := path.Clean(strings.TrimLeft(name, "/"))
	if cleaned == ".." || strings.HasPrefix(cleaned, "../") {
		return "", fmt.Errorf("%q %w", name, ErrLeavesRoot)
	}
	return cleaned, nil
}

// MakeFile opens the file name (O_PATH), creating it, empty, and its directories
// if they are missing.
func (r *Root) MakeFile(name string) (int, error) {
	cleaned, err := Clean(name)
	if err != nil {
		return -1, err
	}
	fd, err := r.Open(cleaned, unix.O_PATH, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := r.MakeDirectories(path.Dir(cleaned), nil)
	if err != nil {
		return -1, err
	}
	unix.Close(parent)
	made, err := r.Open(cleaned, unix.O_CREAT|unix.O_WRONLY|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return -1, err
	}
	unix.Close(made)
	return r.Open(cleaned, unix.O_PATH, 0)
}
