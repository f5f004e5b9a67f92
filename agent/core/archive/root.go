// Package archive reads and writes a container's files as Docker's archive
// calls do: one path's metadata, a path as a tar stream, a tar stream into a
// directory.
//
// The container is not trusted: it may change any path during a walk. Paths are
// therefore resolved by the kernel, inside the container's root (openat2 with
// RESOLVE_IN_ROOT), and everything else works on descriptors and single names
// below them, never following links.
package archive

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// Root is the root directory of one container. Its methods may be called
// concurrently.
type Root struct {
	dir *os.File
}

// NewRoot takes ownership of a descriptor of the directory; O_PATH suffices.
func NewRoot(dir *os.File) *Root { return &Root{dir} }

// Dir is the root's directory, to read the container's passwd and group files.
// The Root keeps ownership.
func (r *Root) Dir() *os.File { return r.dir }

// Close closes the directory. Pending calls fail.
func (r *Root) Close() error { return r.dir.Close() }

// open resolves name inside the root, whatever it says ("..", absolute links).
func (r *Root) open(name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if strings.IndexByte(name, 0) >= 0 {
		return -1, invalid("path %q holds a NUL byte", name)
	}
	fd, err := openat.Open(int(r.dir.Fd()), name, &how)
	if err == unix.ENOSYS {
		err = &failure{ErrUnsupported, "the kernel lacks openat2 (Linux 5.6 or later, and not blocked by a seccomp filter)", err}
	}
	return fd, err
}

// openDir opens a directory by its path, following links inside the root.
func (r *Root) openDir(name string) (int, error) {
	return r.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// absolute makes a request's path absolute and clean, but keeps a trailing "/" or
// "/.", which demand a directory.
func absolute(name string) string {
	clean := path.Join("/", name)
	switch {
	case path.Base(name) == ".": // path.Base ignores trailing slashes
		if clean == "/" {
			return "/."
		}
		return clean + "/."
	case strings.HasSuffix(name, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// maxLinks is the kernel's limit of links in one resolution.
const maxLinks = 40

// evaluate resolves every link in name inside the root, as far as the path
// exists. Use it only for messages and PathStat.LinkTarget: the result may be
// outdated already.
func (r *Root) evaluate(name string) (string, error) {
	done, rest := "/", strings.TrimLeft(name, "/")
	for links := 0; rest != ""; {
		var element string
		element, rest, _ = strings.Cut(rest, "/")
		if element == "" || element == "." {
			continue
		}
		if element == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, element)
		target, err := r.readLink(next)
		if err != nil {
			done = next // not a link, or not there
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = strings.TrimLeft(target, "/") + "/" + rest
	}
	return done, nil
}

func (r *Root) readLink(name string) (string, error) {
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return openat.ReadLink(fd, "")
}
