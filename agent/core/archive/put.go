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

	"github.com/sockerless/sockerless/agent/core/capability"
)

// PutOptions say how a tar stream is unpacked.
type PutOptions struct {
	// NoOverwriteDirNonDir refuses to put a directory in the place of something
	// else and the reverse; without it what is there is removed.
	NoOverwriteDirNonDir bool
	// Owner of every entry; nil: as the tar stream says.
	Owner *Owner
	// Layer makes the tar stream an OCI layer, whose whiteouts take files away, and
	// says what in the root file system is not the container's own and stays as it
	// is. The directory is the root.
	Layer *Bounds
}

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// Put unpacks a tar stream (plain, gzip, bzip2 or zstd) into an existing directory.
// Links in the directory's path are followed inside the root. What was unpacked
// before an error stays. The stream is read to its end.
//
// An entry whose name, hard link or relative symlink leads out of the directory
// is refused; links that are already there, or that an earlier entry made, are
// followed inside the container's root. Nothing outside the root is touched,
// whatever the container does meanwhile.
//
// An agent without CAP_CHOWN leaves the entries to its own user, as tar does
// for an ordinary user; set-user-ID bits, which would mean another one, go. So
// does one with it where the file system refuses to change owners, as an EFS
// access point does that forces a user; modes and times that it refuses stay as
// it gives them.
func (r *Root) Put(ctx context.Context, directory string, stream io.Reader, options PutOptions) error {
	name := absolute(directory)
	dest, err := r.evaluate(name)
	if err != nil {
		return pathError("lstat", name, err)
	}
	fd, err := r.open(name, unix.O_PATH, 0)
	if err != nil {
		return pathError("lstat", name, err)
	}
	err = r.refuseUnpacking(fd, name)
	unix.Close(fd)
	if err != nil {
		return err
	}
	source := &sourceReader{from: stream}
	in := bufio.NewReaderSize(source, copyBuffer)
	plain, release, err := decompress(in)
	if err != nil {
		return source.blame(err)
	}
	defer release()
	held, err := capability.Effective()
	if err != nil {
		return err
	}
	x := &extractor{ctx: ctx, root: r, dest: dest, options: options, source: source, in: tar.NewReader(plain),
		givesAway: held.Has(unix.CAP_CHOWN), parentFD: -1, made: map[string]bool{}}
	defer x.forgetParent()
	if err := x.run(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, onlyReader{in}); err != nil {
		return source.blame(err)
	}
	return nil
}

// MakeDirectory makes a directory, and those above it, root's and with mode
// 0755, where they are missing. Links are followed inside the root.
func (r *Root) MakeDirectory(name string) error {
	x := &extractor{root: r, parentFD: -1}
	defer x.forgetParent()
	_, err := x.openParent(path.Join("/", name))
	return err
}

// refuseUnpacking says, in Docker's words, why nothing can be put into what was
// opened with O_PATH.
func (r *Root) refuseUnpacking(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return invalid("extraction point is not a directory")
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return pathError("statfs", name, err)
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	volume, err := r.mounted(fd)
	if err != nil {
		return pathError("statx", name, err)
	}
	if volume {
		return &failure{ErrReadOnly, "mounted volume is marked read-only", unix.EROFS}
	}
	return &failure{ErrReadOnly, "container rootfs is marked read-only", unix.EROFS}
}

// mounted tells of an open file that it is not in the root's own mount.
func (r *Root) mounted(fd int) (bool, error) {
	var root, file unix.Statx_t
	for from, to := range map[int]*unix.Statx_t{int(r.dir.Fd()): &root, fd: &file} {
		if err := unix.Statx(from, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, to); err != nil {
			return false, err
		}
	}
	return root.Mnt_id != file.Mnt_id, nil
}

// sourceReader remembers why its stream could not be read, so that a stream
// that was cut is told from one that is no tar stream.
type sourceReader struct {
	from io.Reader
	err  error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame explains an error of whoever parsed the stream.
func (s *sourceReader) blame(err error) error {
	if s.err != nil {
		return fmt.Errorf("read tar stream: %w", s.err)
	}
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return &failure{ErrStream, err.Error(), err}
}

// extractor unpacks one stream.
type extractor struct {
	ctx     context.Context
	root    *Root
	dest    string // absolute, links evaluated
	options PutOptions
	source  *sourceReader
	in      *tar.Reader
	dirs    []dirTime

	made      map[string]bool // paths that a layer has brought, and what they are in
	givesAway bool            // entries may belong to other users
	parent    string          // the directory that parentFD stands for; "" when there is none
	parentFD  int
}

// maxDirTimes bounds the directories whose times are still to be set.
const maxDirTimes = 1 << 18

// dirTime is a directory whose times are set when nothing more goes into it.
type dirTime struct {
	entry string
	times [2]unix.Timespec
}

func (x *extractor) run() error {
	for {
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		header, err := x.in.Next()
		if err == io.EOF {
			return x.setDirTimes()
		}
		if err != nil {
			return x.source.blame(err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.extract(header); err != nil {
			return err
		}
	}
}

// extract unpacks one entry.
func (x *extractor) extract(header *tar.Header) error {
	if strings.IndexByte(header.Name, 0) >= 0 || strings.IndexByte(header.Linkname, 0) >= 0 {
		return badStream("tar entry %q holds a NUL byte", header.Name)
	}
	entry := path.Clean(header.Name)
	full := path.Join(x.dest, entry)
	if !within(x.dest, full) {
		return badStream("%q is outside of %q", entry, x.dest)
	}
	if err := x.checkLink(header, full); err != nil {
		return err
	}
	if full == x.dest {
		return nil // the directory itself is there and stays as it is
	}
	if x.options.Layer != nil {
		if done, err := x.extractFromLayer(full); done || err != nil {
			return err
		}
	}
	parent, err := x.openParent(path.Dir(full))
	if err != nil {
		return err
	}
	base := path.Base(full)
	merge, err := x.clear(parent, base, full, header.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	return x.create(parent, base, full, header, merge)
}

// within says that the clean path name is dir or below it.
func within(dir, name string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// checkLink refuses links that lead out of the directory, as Docker does.
// Confinement does not hang on it.
func (x *extractor) checkLink(header *tar.Header, full string) error {
	switch header.Typeflag {
	case tar.TypeLink:
		if target := path.Join(x.dest, header.Linkname); !within(x.dest, target) {
			return badStream("invalid hardlink %q -> %q", target, header.Linkname)
		}
	case tar.TypeSymlink:
		if target := path.Join(path.Dir(full), header.Linkname); !within(x.dest, target) {
			return badStream("invalid symlink %q -> %q", full, header.Linkname)
		}
	}
	return nil
}

// openParent opens the directory an entry goes into, and makes it, as root's
// and with mode 0755, where it is missing. The last one stays open: entries of
// one directory follow each other.
func (x *extractor) openParent(name string) (int, error) {
	if x.parent == name {
		return x.parentFD, nil
	}
	fd, err := x.root.openDir(name)
	if errors.Is(err, unix.ENOENT) && name != "/" {
		fd, err = x.makeParent(name)
	}
	if err != nil {
		return -1, pathError("open", name, err)
	}
	x.forgetParent()
	x.parent, x.parentFD = name, fd
	return fd, nil
}

func (x *extractor) forgetParent() {
	if x.parent != "" {
		unix.Close(x.parentFD)
	}
	x.parent, x.parentFD = "", -1
}

func (x *extractor) makeParent(name string) (int, error) {
	above, err := x.root.openDir(path.Dir(name))
	if errors.Is(err, unix.ENOENT) && path.Dir(name) != "/" {
		above, err = x.makeParent(path.Dir(name))
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	base := path.Base(name)
	if err := unix.Mkdirat(above, base, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, err := unix.Openat(above, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := x.orKept(unix.Fchmod(fd, 0o755)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// clear makes room for an entry. merge says that a directory is already there
// and is kept.
func (x *extractor) clear(parent int, base, full string, isDir bool) (merge bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, pathError("lstat", full, err)
	}
	thereIsDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if x.options.NoOverwriteDirNonDir && thereIsDir != isDir {
		if thereIsDir {
			return false, fmt.Errorf("cannot overwrite directory %q with non-directory %q", full, x.dest)
		}
		return false, fmt.Errorf("cannot overwrite non-directory %q with directory %q", full, x.dest)
	}
	if thereIsDir && isDir {
		return true, nil
	}
	if err := removeAll(parent, base, 0); err != nil {
		return false, pathError("unlinkat", full, err)
	}
	return false, nil
}

// setDirTimes gives the unpacked directories their times, last of all: making
// a file in one changes them.
func (x *extractor) setDirTimes() error {
	for _, d := range x.dirs {
		parent, err := x.openParent(path.Dir(d.entry))
		if err == nil {
			err = x.orKept(unix.UtimesNanoAt(parent, path.Base(d.entry), d.times[:], unix.AT_SYMLINK_NOFOLLOW))
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, ErrNotFound) {
			return pathError("set times of", d.entry, err)
		}
	}
	return nil
}
