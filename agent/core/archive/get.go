package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// Tree is one path to be sent. It must be closed.
type Tree struct {
	Stat PathStat

	fd      int    // the path's own, opened with O_PATH
	top     string // name of the top entry
	devices uint64 // as in appender
}

// Get opens a path for reading as a tar stream. The path is resolved here; later
// changes of it have no effect.
func (r *Root) Get(name string) (*Tree, error) {
	name = absolute(name)
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	stat, err := r.stat(fd, name)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Tree{Stat: stat, fd: fd, top: path.Base(name), devices: r.devices()}, nil
}

// devices is the file system mounted at the root's /dev; 0: none.
func (r *Root) devices() uint64 {
	var root, dev unix.Stat_t
	if unix.Fstat(int(r.dir.Fd()), &root) != nil ||
		unix.Fstatat(int(r.dir.Fd()), "dev", &dev, unix.AT_SYMLINK_NOFOLLOW) != nil || dev.Dev == root.Dev {
		return 0
	}
	return dev.Dev
}

// Close releases the path.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// WriteTar writes the path and its content. The top entry is named after the
// path's last element: `/a/dir` gives `dir/`, `dir/x`; `/a/dir/.` gives `./`,
// `./x`; the root itself gives `/`, `/x`. Entries of a directory are sorted. What
// the runtime mounts for processes (/dev, and kernel file systems such as /proc)
// appears as an empty directory. Hard links within the tree are kept; sockets,
// and files that vanish meanwhile, are left out. A file that shrinks while it is
// read is padded with zeros, one that grows is cut at the size in its header.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer) error {
	return writeTar(ctx, w, func(a *appender) error {
		a.devices = t.devices
		return a.add(t.fd, "", t.top, 0)
	})
}

// WriteEntries writes the entries of paths in this order, under these names, but
// nothing of what they contain. Links in their parents are followed inside the
// root, the last element is not. Paths that do not exist, and sockets, are left out.
func (r *Root) WriteEntries(ctx context.Context, names []string, w io.Writer) error {
	out := bufio.NewWriterSize(w, headerBuffer)
	archive := tar.NewWriter(out)
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header, err := r.entry(path.Join("/", name))
		if err != nil {
			return err
		}
		if header == nil {
			continue
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("write tar entry %s: %w", header.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// entry describes one path, as if it were empty; nil: there is none that a tar can
// hold.
func (r *Root) entry(name string) (*tar.Header, error) {
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, pathError("lstat", name, err)
	}
	header := newHeader(&st, name)
	header.Size = 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil, nil
	case unix.S_IFLNK:
		if header.Linkname, err = openat.ReadLink(fd, ""); err != nil {
			return nil, pathError("readlink", name, err)
		}
	}
	return header, nil
}

// entryName joins an entry's name to its directory's. Docker's names for the
// root's content begin with "/".
func entryName(dir, name string) string {
	return strings.TrimSuffix(dir, "/") + "/" + name
}
