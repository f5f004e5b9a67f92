// Package treecopy copies a directory tree that nobody changes meanwhile, with
// the metadata that images carry: owner, mode, time, hard links, devices, and the
// extended attributes user.* and security.capability. Other attributes, such as
// POSIX ACLs and trusted.*, and sockets are left out. Links are copied literally,
// wherever they lead.
package treecopy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Options exclude parts of a tree, by path.
type Options struct {
	// Hidden files are left out.
	Hidden map[string]bool
	// Mounts are copied as empty directories. A file with a mount on it is left
	// out, since nobody sees it.
	Mounts map[string]bool
}

// Copy copies the content of the directory source into the directory dest, which
// gets its owner, mode and time too. Both paths are absolute, and without links.
func Copy(source, dest string, options Options) error {
	c := &copier{source: source, dest: dest, options: options, copied: map[inode]string{}}
	return c.directory("")
}

// inode identifies a file that may have several names.
type inode struct{ device, number uint64 }

type copier struct {
	source, dest string
	options      Options
	copied       map[inode]string // files with several links → the copy's path
}

// directory copies the content of a directory whose copy exists. name is relative
// to the source.
func (c *copier) directory(name string) error {
	from := filepath.Join(c.source, name)
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := c.entry(filepath.Join(name, entry.Name())); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	return finish(from, filepath.Join(c.dest, name), &st) // last, since creating files in a directory changes its time
}

func (c *copier) entry(name string) error {
	from, to := filepath.Join(c.source, name), filepath.Join(c.dest, name)
	if c.options.Hidden[from] {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	isMount := c.options.Mounts[from]
	switch {
	case isMount && kind != unix.S_IFDIR:
		return nil
	case kind == unix.S_IFDIR:
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		if isMount {
			return os.Chmod(to, 0o755) // the owner of the covered directory is invisible
		}
		return c.directory(name)
	case kind == unix.S_IFSOCK:
		return nil // a socket without its listener is useless
	}
	id := inode{uint64(st.Dev), st.Ino}
	if first, known := c.copied[id]; known {
		return os.Link(first, to)
	}
	if err := makeFile(from, to, &st); err != nil {
		return err
	}
	if st.Nlink > 1 {
		c.copied[id] = to
	}
	return finish(from, to, &st)
}

func makeFile(from, to string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyContent(from, to)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	if err := unix.Mknod(to, st.Mode, int(st.Rdev)); err != nil {
		return &os.PathError{Op: "mknod", Path: to, Err: err}
	}
	return nil
}

func copyContent(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// finish sets a copy's owner, then what that clears, then its time.
func finish(from, to string, st *unix.Stat_t) error {
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}

// copyAttributes copies the attributes that images carry: user.* and
// capabilities.
func copyAttributes(from, to string) error {
	list, err := attributes(from)
	if err != nil {
		return fmt.Errorf("list the attributes of %s: %w", from, err)
	}
	for _, name := range list {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value := make([]byte, maxAttribute)
		size, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:size], 0)
		}
		if err != nil {
			return fmt.Errorf("copy the attribute %s of %s: %w", name, from, err)
		}
	}
	return nil
}

// maxAttribute is the kernel's limit for a value and for all names of a file.
const maxAttribute = 1 << 16

func attributes(path string) ([]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	names := make([]byte, maxAttribute)
	if err == nil {
		size, err = unix.Llistxattr(path, names)
	}
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(names[:size]), func(r rune) bool { return r == 0 }), nil
}
