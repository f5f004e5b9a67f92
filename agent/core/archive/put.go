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
	"github.com/sockerless/sockerless/agent/core/removal"
)

// PutOptions control how a tar stream is unpacked.
type PutOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and
	// the reverse; without it the old entry is removed.
	NoOverwriteDirNonDir bool
	// Owner of every entry; nil: as the tar stream says.
	Owner *Owner
	// Layer treats the tar stream as an OCI layer, whose whiteouts delete files,
	// and lists what in the root file system is not the container's own and stays
	// unchanged. The directory is the root.
	Layer *Bounds
}

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// Put unpacks a tar stream (plain, gzip, bzip2 or zstd) into an existing
// directory. Links in the directory's path are followed inside the root. What was
// unpacked before an error stays. The stream is read to its end.
//
// An entry whose name, hard link or relative symlink leads out of the directory
// is refused; links that exist already, or that an earlier entry created, are
// followed inside the container's root. Nothing outside the root is touched,
// whatever the container does meanwhile.
//
// Without CAP_CHOWN entries belong to the agent's own user, as with tar for an
// ordinary user, and lose set-user-ID bits, which would apply to another user.
// The same happens with CAP_CHOWN where the file system refuses to change owners,
// such as an EFS access point that forces a user; modes and times that it refuses
// stay as it sets them.
func (r *Root) Put(ctx context.Context, directory string, stream io.Reader, options PutOptions) error {
	name := absolute(directory)
	dest, err := r.evaluate(name)
	if err != nil {
		return pathError("lstat", name, err)
	}
	fd, err := r.open(name, unix.O_PATH)
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

// MakeDirectory creates a directory and its missing parents, owned by root and
// with mode 0755. Links are followed inside the root.
func (r *Root) MakeDirectory(name string) error {
	x := &extractor{root: r, parentFD: -1}
	defer x.forgetParent()
	_, err := x.openParent(path.Join("/", name))
	return err
}

// refuseUnpacking returns, in Docker's words, why nothing can be unpacked into a
// file opened with O_PATH.
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

// mounted reports whether an open file is outside the root's own mount.
func (r *Root) mounted(fd int) (bool, error) {
	var root, file unix.Statx_t
	for from, to := range map[int]*unix.Statx_t{int(r.dir.Fd()): &root, fd: &file} {
		if err := unix.Statx(from, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, to); err != nil {
			return false, err
		}
	}
	return root.Mnt_id != file.Mnt_id, nil
}

// sourceReader remembers a read error, so that a cut stream is distinguished from
// one that is not tar.
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

// blame explains a parser's error by the stream's, if there is one.
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
	dirText int // bytes that they take

	made      map[string]bool // paths that this layer has created, and their parents
	givesAway bool            // entries may belong to other users
	parent    string          // the directory that parentFD stands for; "" when there is none
	parentFD  int
}

// maxDirText bounds the bytes of directories that wait to get their times, which a tar
// stream may name as often and as long as it likes.
const maxDirText = 32 << 20

// dirTime holds a directory's times, which are set when nothing more goes into
// it.
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

// within reports whether the clean path name is dir or below it.
func within(dir, name string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// checkLink refuses links that lead out of the directory, as Docker does.
// Confinement does not depend on it.
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

// openParent opens an entry's directory, and creates it, owned by root and with
// mode 0755, if it is missing. The last one stays open: entries of one directory
// follow each other.
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

// clear makes room for an entry. merge reports that an existing directory is
// kept.
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
	if err := removal.Tree(parent, base); err != nil {
		return false, pathError("unlinkat", full, err)
	}
	return false, nil
}

// setDirTimes sets the times of unpacked directories last, because creating a
// file in one changes them.
func (x *extractor) setDirTimes() error {
	for _, d := range x.dirs {
		// A name may lead through links that take milliseconds.
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
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
