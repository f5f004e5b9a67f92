package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how deep a tree is followed: a descriptor is held for each
// level, and no path of more levels fits the kernel's PATH_MAX.
const maxDepth = 2048

// Tree is one path that is about to be sent. It must be closed.
type Tree struct {
	Stat PathStat

	fd      int    // the path's own, opened with O_PATH
	top     string // name of the top entry
	devices uint64 // as in appender
}

// Get opens a path for reading as a tar stream. The file that it means is
// settled here: a later change of the path does not change it.
func (r *Root) Get(name string) (*Tree, error) {
	name = absolute(name)
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
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

// devices is the file system that is mounted at the root's /dev; 0: none.
func (r *Root) devices() uint64 {
	var root, dev unix.Stat_t
	if unix.Fstat(int(r.dir.Fd()), &root) != nil ||
		unix.Fstatat(int(r.dir.Fd()), "dev", &dev, unix.AT_SYMLINK_NOFOLLOW) != nil || dev.Dev == root.Dev {
		return 0
	}
	return dev.Dev
}

// Close lets go of the path.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// WriteTar writes the path and what is below it. The top entry is called as
// the path's last element is: `/a/dir` gives `dir/`, `dir/x`; `/a/dir/.` gives
// `./`, `./x`; the root itself gives `/`, `/x`. Entries of a directory are
// sorted. What the runtime has mounted for processes (/dev, and kernel file
// systems as /proc) shows as an empty directory. Hard links within the tree are kept, sockets are left out, a file
// that vanishes meanwhile is left out too. A file that shrinks while it is read
// is filled up with zeros, one that grows is cut at the size its header told.
func (t *Tree) WriteTar(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, copyBuffer)
	a := &appender{ctx: ctx, out: tar.NewWriter(out), seen: map[inode]string{}, devices: t.devices}
	if err := a.add(t.fd, "", t.top, 0); err != nil {
		return err
	}
	if err := a.out.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// entryName joins an entry's name to its directory's. Docker's names for the
// root's content begin with "/".
func entryName(dir, name string) string {
	return strings.TrimSuffix(dir, "/") + "/" + name
}
