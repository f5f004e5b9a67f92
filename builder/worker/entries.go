package worker

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// xattrPrefix is the prefix of PAX records with extended attributes.
const xattrPrefix = "SCHILY.xattr."

// directoryTimes has the times of placed directories, by name; filling a directory changes them.
type directoryTimes map[string]time.Time

// restore restores the times of a directory, of those beneath it and on the way to it, as far as they still are
// directories.
func (t directoryTimes) restore(root *os.Root, filled string) error {
	for name := range t {
		if filled != "." && name != filled && !strings.HasPrefix(name, filled+"/") {
			continue
		}
		if err := t.set(root, name); err != nil {
			return err
		}
	}
	return t.restoreAbove(root, filled)
}

// restoreAbove restores the times of the directories on the way to a name.
func (t directoryTimes) restoreAbove(root *os.Root, name string) error {
	for name != "." {
		name = path.Dir(name)
		if err := t.set(root, name); err != nil {
			return err
		}
	}
	return nil
}

func (t directoryTimes) set(root *os.Root, name string) error {
	at, isPlaced := t[name]
	if !isPlaced {
		return nil
	}
	if info, err := root.Lstat(name); err != nil || !info.IsDir() {
		return nil
	}
	return root.Chtimes(name, at, at)
}

// placeEntry creates a tar entry beneath a root that has its parents. Nothing is followed out of the root, and devices
// are skipped. It notes a directory's time, to be restored once it is filled.
func placeEntry(root *os.Root, times directoryTimes, name string, header *tar.Header, content io.Reader) error {
	mode := header.FileInfo().Mode()
	switch header.Typeflag {
	case tar.TypeDir:
		times[name] = header.ModTime
		if info, err := root.Lstat(name); err != nil || !info.IsDir() {
			if err := replace(root, name, func() error { return root.Mkdir(name, 0o755) }); err != nil {
				return err
			}
		}
	case tar.TypeReg:
		if err := replace(root, name, func() error { return writeFile(root, name, content) }); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := replace(root, name, func() error { return root.Symlink(header.Linkname, name) }); err != nil {
			return err
		}
		if err := root.Lchown(name, header.Uid, header.Gid); err != nil {
			return err
		}
		return setLinkTime(root, name, header.ModTime)
	case tar.TypeLink:
		return replace(root, name, func() error { return root.Link(relative(header.Linkname), name) })
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeFifo:
		if err := replace(root, name, func() error { return makePipe(root, name) }); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		return nil
	default:
		return fmt.Errorf("%s: an entry of type %q cannot be unpacked", header.Name, header.Typeflag)
	}
	if err := root.Lchown(name, header.Uid, header.Gid); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeFifo { // setting it would require opening the pipe
		if err := setXattrs(root, name, header); err != nil {
			return err
		}
	}
	// After the owner, since changing that clears the set-user-ID bit.
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	return root.Chtimes(name, header.ModTime, header.ModTime)
}

// makePipe creates a named pipe.
func makePipe(root *os.Root, name string) error {
	return inParent(root, name, func(parent int, base string) error {
		return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	})
}

// setLinkTime sets the times of a symbolic link itself.
func setLinkTime(root *os.Root, name string, at time.Time) error {
	stamp, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	return inParent(root, name, func(parent int, base string) error {
		return unix.UtimesNanoAt(parent, base, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// inParent calls a function with the opened parent of a name. It opens nothing but directories on the way.
func inParent(root *os.Root, name string, call func(parent int, base string) error) error {
	parent, err := root.OpenFile(path.Dir(name), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	return call(int(parent.Fd()), path.Base(name))
}

// replace creates an entry, replacing an existing one.
func replace(root *os.Root, name string, make func() error) error {
	err := make()
	if !errors.Is(err, fs.ErrExist) || name == "." {
		return err
	}
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	return make()
}

func writeFile(root *os.Root, name string, content io.Reader) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if content != nil {
		if _, err := io.Copy(file, content); err != nil {
			file.Close()
			return err
		}
	}
	return file.Close()
}

func setXattrs(root *os.Root, name string, header *tar.Header) error {
	for key, value := range header.PAXRecords {
		attribute, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		file, err := root.Open(name)
		if err != nil {
			return err
		}
		err = unix.Fsetxattr(int(file.Fd()), attribute, []byte(value), 0)
		file.Close()
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set %s of %s: %w", attribute, name, err)
		}
	}
	return nil
}

// maxPathBytes is the kernel's limit for a path; tar names may be longer.
const maxPathBytes = 4096

// UnpackContext unpacks a client's tar into a directory. Entries belong to root, as a client's files do in a build. It
// refuses an entry whose path leads out of the directory, by its name or through a link, a device, and an archive that
// exceeds the limits.
func (w *Worker) UnpackContext(directory string, archive *tar.Reader) error {
	return unpackContext(directory, archive, w.limits.Context)
}

func unpackContext(directory string, archive *tar.Reader, limits ContextLimits) error {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	count := &unpacking{limits: limits, what: theContext}
	times := directoryTimes{}
	err = eachEntry(archive, func(header *tar.Header) error {
		if err := count.add(header.Size); err != nil {
			return err
		}
		if err := refuseLong(header.Name); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeChar || header.Typeflag == tar.TypeBlock {
			return fmt.Errorf("%s: a build context has no devices", header.Name)
		}
		clean := path.Clean(header.Name)
		if clean == ".." || strings.HasPrefix(clean, "../") {
			return fmt.Errorf("%s: leads out of the build context", header.Name)
		}
		header.Uid, header.Gid = 0, 0
		name := relative(header.Name)
		if err := makeParents(root, path.Dir(name), count); err != nil {
			return err
		}
		return placeEntry(root, times, name, header, archive)
	})
	if err != nil {
		return err
	}
	return times.restore(root, ".")
}

// makeParents creates and counts parent directories that have no entry of their own.
func makeParents(root *os.Root, name string, count *unpacking) error {
	if name == "." {
		return nil
	}
	// It usually exists.
	if info, err := root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := makeParents(root, path.Dir(name), count); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return count.add(0)
}

func refuseLong(name string) error {
	if len(name) > maxPathBytes {
		return fmt.Errorf("%s…: %w", name[:64], unix.ENAMETOOLONG)
	}
	return nil
}
