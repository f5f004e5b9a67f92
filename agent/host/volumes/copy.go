package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
	"github.com/sockerless/sockerless/agent/core/openat"
	"github.com/sockerless/sockerless/agent/core/removal"
)

type inode struct{ device, number uint64 }

// mostLinkText bounds the bytes of the names of files with several, which an image has
// as many and as long as it likes: further ones are copied once for each name. It is a
// variable for tests.
var mostLinkText = 64 << 20

// copier copies a tree that does not change. Links are never followed.
type copier struct {
	ctx      context.Context
	root     int              // of the copy
	links    map[inode]string // first copy of a file with several names, relative to root
	linkText int              // bytes of these
}

// directory copies the content and then the attributes of the open directory
// source to target. name is the target's path in the copy.
func (c *copier) directory(source, target int, name string, depth int) error {
	leave, err := levels.Enter(name, depth, 2)
	if err != nil {
		return err
	}
	defer leave()
	err = eachName(source, func(entry string) error {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err := c.entry(source, target, entry, path.Join(name, entry), depth); err != nil {
			return fmt.Errorf("%s: %w", entry, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(source, &stat); err != nil {
		return err
	}
	return copyAttributes(source, target, ".", &stat)
}

func (c *copier) entry(source, target int, entry, name string, depth int) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(source, entry, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := stat.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdirectory(source, target, entry, name, depth)
	}
	// Left by an interrupted copy.
	if err := removal.Tree(target, entry); err != nil {
		return err
	}
	key := inodeOf(&stat)
	if first, ok := c.links[key]; ok {
		return linkBeneath(c.root, first, target, entry)
	}
	const besidesName = 64
	if text := len(name) + besidesName; stat.Nlink > 1 && c.linkText+text <= mostLinkText {
		c.links[key] = name
		c.linkText += text
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = copyContent(source, target, entry)
	case unix.S_IFLNK:
		err = copyLink(source, target, entry)
	case unix.S_IFSOCK: // nobody listens on it any more
		return nil
	default:
		err = unix.Mknodat(target, entry, stat.Mode, int(stat.Rdev))
	}
	if err != nil {
		return err
	}
	return copyAttributes(source, target, entry, &stat)
}

func (c *copier) subdirectory(source, target int, entry, name string, depth int) error {
	if err := unix.Mkdirat(target, entry, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	from, err := unix.Openat(source, entry, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Openat(target, entry, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return c.directory(from, to, name, depth+1)
}

// eachName visits the names of a directory, some at a time: an image may have millions.
func eachName(directory int, visit func(name string) error) error {
	buffer := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(directory, buffer)
		if n <= 0 || err != nil {
			return err
		}
		_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
		for _, name := range names {
			if err := visit(name); err != nil {
				return err
			}
		}
	}
}

func copyLink(source, target int, entry string) error {
	to, err := openat.ReadLink(source, entry)
	if err != nil {
		return err
	}
	return unix.Symlinkat(to, target, entry)
}

// copyContent copies within the kernel if both sides are on one file system. An
// overlay and the disk below it are not, and io.Copy handles that.
func copyContent(source, target int, entry string) error {
	from, err := unix.Openat(source, entry, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	reader := os.NewFile(uintptr(from), entry)
	defer reader.Close()
	to, err := unix.Openat(target, entry, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	writer := os.NewFile(uintptr(to), entry)
	_, err = io.Copy(writer, reader)
	return errors.Join(err, writer.Close())
}

// copyAttributes sets the owner first, since that clears set-user-ID and
// capabilities.
func copyAttributes(source, target int, entry string, stat *unix.Stat_t) error {
	if err := unix.Fchownat(target, entry, int(stat.Uid), int(stat.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := openat.Chmod(target, entry, stat.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := copyXattrs(descriptorPath(source, entry), descriptorPath(target, entry)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(target, entry, []unix.Timespec{stat.Atim, stat.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// linkBeneath links to a path beneath root without following symlinks, which a
// container with the volume may put there meanwhile.
func linkBeneath(root int, name string, target int, entry string) error {
	first, err := openat.Open(root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(first)
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", first), target, entry, unix.AT_SYMLINK_FOLLOW)
}

func descriptorPath(directory int, entry string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", directory, entry)
}

func copyXattrs(source, target string) error {
	buffer := make([]byte, 64<<10) // the kernel's limit for names, and for one value
	n, err := unix.Llistxattr(source, buffer)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		size, err := unix.Lgetxattr(source, name, value)
		if err != nil || strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		if err := unix.Lsetxattr(target, name, value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
