package archive

import (
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// PathStat is the metadata of one path, as Docker's archive calls give it.
type PathStat struct {
	Name       string // last element of the path as it was asked for; "/" for the root
	Size       int64
	Mode       os.FileMode
	ModTime    time.Time
	LinkTarget string // of a symlink: where it leads inside the root, absolute
}

// Stat describes one path. Links in its parents are followed inside the root;
// the last element is not, unless a trailing "/" or "/." asks for a directory.
// A relative path starts at the root.
func (r *Root) Stat(name string) (PathStat, error) {
	name = absolute(name)
	fd, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return PathStat{}, pathError("lstat", name, err)
	}
	defer unix.Close(fd)
	return r.stat(fd, name)
}

// stat describes the path name that fd was opened by.
func (r *Root) stat(fd int, name string) (PathStat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return PathStat{}, pathError("lstat", name, err)
	}
	stat := PathStat{
		Name:    path.Base(name),
		Size:    st.Size,
		Mode:    fileMode(st.Mode),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	if stat.Mode&os.ModeSymlink != 0 {
		target, err := r.evaluate(name)
		if err != nil {
			return PathStat{}, pathError("readlink", name, err)
		}
		stat.LinkTarget = target
	}
	return stat, nil
}

// fileMode converts Linux mode bits to Go's.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK:
		m |= os.ModeDevice
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	}
	if mode&unix.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}
