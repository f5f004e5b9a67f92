package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/removal"
	"github.com/sockerless/sockerless/agent/host/confined"
)

// unpacker writes the entries of one layer's tar beneath root, in overlayfs's
// format. Nobody else touches the tree meanwhile.
type unpacker struct {
	pause  func() error // between files, holes and directories; its error ends the work
	stream io.Reader    // the uncompressed tar
	tar    *tar.Reader
	root   *confined.Root
	buffer []byte
	// Remaining bytes allowed for sparse files: a few bytes of tar can stand for
	// an exabyte of zeros.
	sparseAllowance uint64

	size       uint64
	rootStated bool
	rootOpaque bool
	// Set at the end, since creating files in a directory changes them.
	directoryTimes map[string]time.Time
	directoryBytes int // that they take
}

// maxDirectoryBytes bounds the directories that wait for their times: of more of
// them, which no usual layer has, those before get theirs, and again a later one
// with each further file.
const maxDirectoryBytes = 32 << 20

// newUnpacker allows as many sparse bytes as the file system has in total.
func newUnpacker(pause func() error, stream io.Reader, root *confined.Root) (*unpacker, error) {
	root.Pause = pause
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(root.Directory().Fd()), &stat); err != nil {
		return nil, fmt.Errorf("statfs: %w", err)
	}
	return &unpacker{
		pause: pause, stream: stream, tar: tar.NewReader(stream), root: root,
		buffer: make([]byte, blockSize), sparseAllowance: stat.Blocks * uint64(stat.Bsize),
		directoryTimes: map[string]time.Time{},
	}, nil
}

// unpackAll unpacks the stream and reads it to its end: the digest also covers
// what follows the last entry.
func (u *unpacker) unpackAll() error {
	for {
		// A hundred entries of thousands of directories may have been read ahead.
		if err := u.pause(); err != nil {
			return err
		}
		header, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := u.unpack(header); err != nil {
			return entryError(header.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, u.stream); err != nil {
		return err
	}
	return u.setDirectoryTimes()
}

func (u *unpacker) unpack(header *tar.Header) error {
	if header.Typeflag == tar.TypeXGlobalHeader { // git archive writes one
		return nil
	}
	name, err := confined.Clean(header.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return u.unpackRoot(header)
	}
	directory, base := path.Dir(name), path.Base(name)
	parent, err := u.root.MakeDirectories(directory, replaceWhiteout)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, directory, base)
	}
	return u.entry(parent, base, name, header)
}

// unpackRoot applies the root directory's own attributes.
func (u *unpacker) unpackRoot(header *tar.Header) error {
	if header.Typeflag != tar.TypeDir {
		return errors.New("the root must be a directory")
	}
	u.rootStated = true
	if err := setAttributes(int(u.root.Directory().Fd()), ".", header); err != nil {
		return err
	}
	return u.keepDirectoryTime(".", header.ModTime)
}

func (u *unpacker) entry(parent int, base, name string, header *tar.Header) error {
	isDirectory := header.Typeflag == tar.TypeDir
	existing, hidesLower, err := clearWay(parent, base, isDirectory)
	if err != nil {
		return err
	}
	delete(u.directoryTimes, name)
	switch header.Typeflag {
	case tar.TypeDir:
		if !existing {
			err = unix.Mkdirat(parent, base, 0o700)
		}
		err = errors.Join(err, u.keepDirectoryTime(name, header.ModTime))
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		err = u.writeFile(parent, base, header)
	case tar.TypeSymlink:
		err = unix.Symlinkat(header.Linkname, parent, base)
	case tar.TypeLink:
		return u.hardLink(parent, base, header.Linkname)
	case tar.TypeChar:
		err = makeDevice(parent, base, unix.S_IFCHR, header)
	case tar.TypeBlock:
		err = makeDevice(parent, base, unix.S_IFBLK, header)
	case tar.TypeFifo:
		err = unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	default:
		err = fmt.Errorf("unknown entry type %q", header.Typeflag)
	}
	if err != nil {
		return err
	}
	if err := setAttributes(parent, base, header); err != nil {
		return err
	}
	if isDirectory && hidesLower {
		return setOpaque(parent, base)
	}
	return nil
}

// clearWay removes what an earlier entry created at this place, except a
// directory that stays one. hidesLower: it was a whiteout, whose effect a
// directory in its place must keep.
func clearWay(parent int, base string, isDirectory bool) (existing, hidesLower bool, err error) {
	var stat unix.Stat_t
	err = unix.Fstatat(parent, base, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if isDirectory && stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, false, nil
	}
	return false, isWhiteout(&stat), removal.Tree(parent, base)
}

// hardLink links to a file of the same layer. It does not follow the last
// element.
func (u *unpacker) hardLink(parent int, base, linkName string) error {
	target, err := confined.Clean(linkName)
	if err != nil {
		return fmt.Errorf("hard link to %w", err)
	}
	directory, err := u.root.Open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", linkName, err)
	}
	defer unix.Close(directory)
	if err := unix.Linkat(directory, path.Base(target), parent, base, 0); err != nil {
		return fmt.Errorf("hard link to %q: %w", linkName, err)
	}
	return nil
}

func makeDevice(parent int, base string, kind uint32, header *tar.Header) error {
	if header.Devmajor < 0 || header.Devmajor >= 1<<12 || header.Devminor < 0 || header.Devminor >= 1<<20 {
		return fmt.Errorf("device number %d:%d is out of range", header.Devmajor, header.Devminor)
	}
	device := unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))
	return unix.Mknodat(parent, base, kind|0o600, int(device))
}

func (u *unpacker) keepDirectoryTime(name string, modified time.Time) error {
	const besidesName = 64
	if u.directoryBytes += len(name) + besidesName; u.directoryBytes > maxDirectoryBytes {
		if err := u.setDirectoryTimes(); err != nil {
			return err
		}
		clear(u.directoryTimes)
		u.directoryBytes = len(name) + besidesName
	}
	u.directoryTimes[name] = modified
	return nil
}

// setDirectoryTimes skips directories that a later entry made unreachable.
func (u *unpacker) setDirectoryTimes() error {
	for name, modified := range u.directoryTimes {
		// A name may lead through links that take milliseconds.
		if err := u.pause(); err != nil {
			return err
		}
		fd, err := u.root.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		// A file system that refuses this keeps its own time, which does no harm.
		_ = unix.UtimesNanoAt(fd, ".", timespecs(modified, modified), 0)
		unix.Close(fd)
	}
	return nil
}
