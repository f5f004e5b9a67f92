package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
	"github.com/sockerless/sockerless/agent/core/openat"
)

const (
	// copyBuffer and headerBuffer are what a client that does not read an archive holds
	// for as long as it likes.
	copyBuffer = 128 << 10
	// headerBuffer collects headers and small files. A full copyBuffer passes it by, being
	// larger.
	headerBuffer = 32 << 10
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// maxLinked bounds how many hard-linked files are remembered; further ones are
// sent once for each name.
const maxLinked = 1 << 20

// maxLinkedText bounds the bytes of their names, which deep directories lengthen.
const maxLinkedText = 64 << 20

// inode identifies a file that may have several names.
type inode struct{ dev, ino uint64 }

// appender writes a tree's entries, parents first.
type appender struct {
	ctx  context.Context
	out  *tar.Writer
	seen map[inode]string // files with several links → the name written first
	// seenText is the bytes of these names.
	seenText int
	// bounds limits what is written; the zero Bounds limit nothing.
	bounds Bounds
	// devices is the file system that the runtime has mounted at /dev; 0: none.
	devices uint64
	// within is the file system of the directory whose entries are written.
	within uint64
}

// add writes the file name in the directory dir (or the file dir itself when
// name is empty) as entry, and what is below it.
func (a *appender) add(dir int, name, entry string, depth int) error {
	if err := a.ctx.Err(); err != nil {
		return context.Cause(a.ctx)
	}
	if a.bounds.hides(entry) {
		return nil
	}
	fd := dir
	if name != "" {
		var err error
		fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // it vanished
		}
		if err != nil {
			return pathError("open", entry, err)
		}
		defer unix.Close(fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("lstat", entry, err)
	}
	header := newHeader(&st, entry)
	if a.bounds.mounted(entry) {
		if header.Typeflag != tar.TypeDir {
			return nil
		}
		return a.writeHeader(header)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if depth > 0 && st.Dev == a.devices && st.Dev != a.within || isOfTheKernel(fd) {
			return a.writeHeader(header)
		}
		outside := a.within
		a.within = st.Dev
		defer func() { a.within = outside }()
		return a.addDir(fd, header, entry, depth)
	case unix.S_IFREG:
		if a.linked(&st, header) {
			return a.writeHeader(header)
		}
		return a.addFile(fd, header)
	case unix.S_IFLNK:
		target, err := openat.ReadLink(fd, "")
		if err != nil {
			return pathError("readlink", entry, err)
		}
		header.Linkname = target
	case unix.S_IFSOCK:
		return nil // tar has no entry for it
	}
	a.linked(&st, header)
	return a.writeHeader(header)
}

// isOfTheKernel reports whether a directory belongs to a kernel file system such
// as /proc or /sys, where reading a file asks the kernel. Docker has none mounted
// where it copies from.
func isOfTheKernel(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}

// newHeader describes a file as Docker does: numeric owners, whole seconds.
func newHeader(st *unix.Stat_t, entry string) *tar.Header {
	header := &tar.Header{
		Format:  tar.FormatPAX,
		Name:    entry,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(st.Uid),
		Gid:     int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		header.Typeflag = tar.TypeDir
		header.Name = entryName(entry, "")
	case unix.S_IFREG:
		header.Typeflag, header.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		header.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		header.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		header.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			header.Typeflag = tar.TypeBlock
		}
		header.Devmajor = int64(unix.Major(st.Rdev))
		header.Devminor = int64(unix.Minor(st.Rdev))
	}
	return header
}

// linked turns header into a hard link if the file was already written under
// another name.
func (a *appender) linked(st *unix.Stat_t, header *tar.Header) bool {
	if st.Nlink < 2 {
		return false
	}
	id := inode{st.Dev, st.Ino}
	first, seen := a.seen[id]
	if !seen {
		if len(a.seen) < maxLinked && a.seenText+len(header.Name) <= maxLinkedText {
			a.seen[id] = header.Name
			a.seenText += len(header.Name)
		}
		return false
	}
	header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
	return true
}

func (a *appender) writeHeader(header *tar.Header) error {
	if err := a.out.WriteHeader(header); err != nil {
		return fmt.Errorf("write tar entry %s: %w", header.Name, err)
	}
	return nil
}

func (a *appender) addDir(fd int, header *tar.Header, entry string, depth int) error {
	leave, err := levels.Enter(entry, depth, 2)
	if err != nil {
		return err
	}
	defer leave()
	dir, err := openNames(fd)
	if err != nil {
		return pathError("read directory", entry, err)
	}
	defer dir.Close()
	if err := a.writeHeader(header); err != nil {
		return err
	}
	for {
		names, err := someNames(dir)
		if err != nil {
			return pathError("read directory", entry, err)
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if err := a.add(fd, name, entryName(entry, name), depth+1); err != nil {
				return err
			}
		}
	}
}

func (a *appender) addFile(fd int, header *tar.Header) error {
	file, st, err := reopenRegular(fd, header.Name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	header.Size = st.Size
	addCapability(int(file.Fd()), header)
	if err := a.writeHeader(header); err != nil {
		return err
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(a.out, onlyReader{io.LimitReader(file, header.Size)}, *buf)
	if err != nil {
		return fmt.Errorf("copy %s: %w", header.Name, err)
	}
	return a.fillUp(header.Size-n, *buf)
}

// fillUp writes n zeros in place of what a file lost by shrinking.
func (a *appender) fillUp(n int64, buf []byte) error {
	if n == 0 {
		return nil
	}
	clear(buf)
	for n > 0 {
		written, err := a.out.Write(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("fill up a shrunken file: %w", err)
		}
		n -= int64(written)
	}
	return nil
}

// onlyReader hides every other method, so that io.CopyBuffer uses the buffer.
type onlyReader struct{ io.Reader }

var _ io.Reader = onlyReader{(*os.File)(nil)}
