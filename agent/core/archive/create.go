package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// create makes one entry's file under the name base in the directory parent and
// sets its owner, attributes, mode and times, in this order: changing the owner
// clears set-user-ID bits and capabilities.
func (x *extractor) create(parent int, base, full string, header *tar.Header, merge bool) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return x.createDir(parent, base, full, header, merge)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.createRegular(parent, base, full, header)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(header.Linkname, parent, base); err != nil {
			return pathError("symlink", full, err)
		}
	case tar.TypeLink:
		return x.createLink(parent, base, header)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := makeNode(parent, base, header); err != nil {
			return pathError("mknod", full, err)
		}
	default:
		return badStream("unhandled tar header type %d", header.Typeflag)
	}
	given, err := x.chown(full, func() error {
		owner := x.owner(header)
		return unix.Fchownat(parent, base, owner.UID, owner.GID, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return err
	}
	if header.Typeflag != tar.TypeSymlink {
		if err := x.orKept(chmodNode(parent, base, mode(header, given))); err != nil {
			return pathError("chmod", full, err)
		}
	}
	times := headerTimes(header)
	if err := x.orKept(unix.UtimesNanoAt(parent, base, times[:], unix.AT_SYMLINK_NOFOLLOW)); err != nil {
		return pathError("set times of", full, err)
	}
	return nil
}

func (x *extractor) createRegular(parent int, base, full string, header *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError("open", full, err)
	}
	file := os.NewFile(uintptr(fd), full)
	defer file.Close()
	piece := wholePieces.Get().(*[]byte)
	defer wholePieces.Put(piece)
	content := &contentReader{x: x}
	if err := copyWhole(file, content, *piece); err != nil {
		switch {
		case x.ctx.Err() != nil:
			return context.Cause(x.ctx)
		case content.err != nil:
			return x.source.blame(content.err)
		}
		return err // the error names the file
	}
	return x.finish(fd, full, header)
}

// wholePiece is how much is written to a file at once: half a megabyte at an
// aligned offset costs the kernel half the time of network-sized writes, which
// leaves the sender more.
const wholePiece = 512 << 10

var wholePieces = sync.Pool{New: func() any { b := make([]byte, wholePiece); return &b }}

// copyWhole copies in whole buffers, however short the reads.
func copyWhole(to io.Writer, from io.Reader, buf []byte) error {
	for {
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var more int
			more, err = from.Read(buf[n:])
			n += more
		}
		if n > 0 {
			if _, failure := to.Write(buf[:n]); failure != nil {
				return failure
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// contentReader reads an entry's content, and keeps its errors apart from the
// file's.
type contentReader struct {
	x   *extractor
	err error
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.x.ctx.Err() != nil {
		return 0, c.x.ctx.Err()
	}
	n, err := c.x.in.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (x *extractor) createDir(parent int, base, full string, header *tar.Header, merge bool) error {
	if !merge {
		if err := unix.Mkdirat(parent, base, 0o700); err != nil {
			return pathError("mkdir", full, err)
		}
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("open", full, err)
	}
	defer unix.Close(fd)
	if err := x.finish(fd, full, header); err != nil {
		return err
	}
	const besidesName = 64
	x.dirs = append(x.dirs, dirTime{full, headerTimes(header)})
	if x.dirText += len(full) + besidesName; x.dirText < maxDirText {
		return nil
	}
	err = x.setDirTimes()
	x.dirs, x.dirText = nil, 0
	return err
}

// finish sets the metadata of an open file or directory.
func (x *extractor) finish(fd int, full string, header *tar.Header) error {
	given, err := x.chown(full, func() error {
		owner := x.owner(header)
		return unix.Fchown(fd, owner.UID, owner.GID)
	})
	if err != nil {
		return err
	}
	for key, value := range header.PAXRecords {
		attribute, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		// EPERM: this agent may not set it (as Docker in a user namespace).
		if err := unix.Fsetxattr(fd, attribute, []byte(value), 0); err != nil && err != unix.EPERM {
			return pathError("set attribute "+attribute+" of", full, err)
		}
	}
	if err := x.orKept(unix.Fchmod(fd, mode(header, given))); err != nil {
		return pathError("chmod", full, err)
	}
	times := headerTimes(header)
	if err := x.orKept(unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH)); err != nil {
		return pathError("set times of", full, err)
	}
	return nil
}

// createLink links to an existing file. Links in its path are followed inside the
// root, the file itself is not.
func (x *extractor) createLink(parent int, base string, header *tar.Header) error {
	target := path.Join(x.dest, header.Linkname)
	dir, err := x.root.openDir(path.Dir(target))
	if err != nil {
		return pathError("link", target, err)
	}
	defer unix.Close(dir)
	if err := unix.Linkat(dir, path.Base(target), parent, base, 0); err != nil {
		return pathError("link", target, err)
	}
	return nil
}

func (x *extractor) owner(header *tar.Header) Owner {
	if x.options.Owner != nil {
		return *x.options.Owner
	}
	return Owner{header.Uid, header.Gid}
}

// mode is the entry's mode, without the set-user-ID and set-group-ID bits if the
// owner was not set: they would then apply to another user.
func mode(header *tar.Header, given bool) uint32 {
	if given {
		return uint32(header.Mode & 0o7777)
	}
	return uint32(header.Mode & 0o1777)
}

// chown reports whether the entry has its owner now: an agent without CAP_CHOWN
// does not try, and a file system may refuse anybody.
func (x *extractor) chown(full string, change func() error) (given bool, err error) {
	if !x.givesAway {
		return false, nil
	}
	err = change()
	if kept := x.orKept(err); kept != nil {
		return false, pathError("chown", full, kept)
	}
	return err == nil, nil
}

// orKept ignores EPERM for an agent that may change anything, so that the entry
// stays as its file system has it: an NFS export that squashes users refuses such
// changes.
func (x *extractor) orKept(err error) error {
	if x.givesAway && errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

func makeNode(parent int, base string, header *tar.Header) error {
	mode := uint32(0o600)
	switch header.Typeflag {
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	}
	return unix.Mknodat(parent, base, mode, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))))
}

// chmodNode sets the mode of a device or pipe; one that has been replaced by a
// symlink is left alone.
func chmodNode(parent int, base string, mode uint32) error {
	err := openat.Chmod(parent, base, mode)
	if errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}

// headerTimes are an entry's access and modification times. A time that does not
// fit becomes the epoch.
func headerTimes(header *tar.Header) [2]unix.Timespec {
	access := header.AccessTime
	if access.Before(header.ModTime) {
		access = header.ModTime
	}
	return [2]unix.Timespec{timespec(access), timespec(header.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	first, last := time.Unix(0, 0), time.Unix(0, 1<<63-1)
	if t.Before(first) || t.After(last) {
		t = first
	}
	return unix.NsecToTimespec(t.UnixNano())
}
