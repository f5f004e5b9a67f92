package archive

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

var errNotRegular = errors.New("not a regular file")

const xattrPrefix = "SCHILY.xattr."

// reopenRegular opens for reading the regular file behind fd (O_PATH). A device
// or a pipe is never opened, even if one takes the name meanwhile: opening alone
// may block or have an effect.
func reopenRegular(fd int, name string) (*os.File, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, pathError("open", name, errNotRegular)
	}
	opened, err := reopen(fd, unix.O_RDONLY)
	if err != nil {
		return nil, nil, pathError("open", name, err)
	}
	if err := unix.Fstat(opened, &st); err != nil {
		unix.Close(opened)
		return nil, nil, pathError("stat", name, err)
	}
	return os.NewFile(uintptr(opened), name), &st, nil
}

// reopen opens the same file that an O_PATH descriptor refers to, through the
// agent's own /proc.
func reopen(fd, flags int) (int, error) {
	opened, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		if _, statErr := os.Stat("/proc/self/fd"); statErr != nil {
			return -1, &failure{ErrUnsupported, "reading files needs /proc to be mounted", statErr}
		}
	}
	return opened, err
}

// namesAtOnce bounds how many names of one directory are in memory: a container
// may create millions. Only up to this many are sorted. It is a variable so that
// tests need fewer.
var namesAtOnce = 1 << 16

// openNames reopens the directory fd to read its names.
func openNames(fd int) (*os.File, error) {
	opened, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), "."), nil
}

// someNames reads the next names of a directory, sorted; none at the end.
func someNames(dir *os.File) ([]string, error) {
	names, err := dir.Readdirnames(namesAtOnce)
	if err != nil && err != io.EOF {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// addCapability copies a file's capabilities into its header; Docker copies no
// other extended attribute. The form with a namespace's root user is converted to
// the plain one.
func addCapability(fd int, header *tar.Header) {
	const (
		name     = "security.capability"
		sizeV2   = 20
		revision = 3 // byte that holds it
	)
	var buf [64]byte
	n, err := unix.Fgetxattr(fd, name, buf[:])
	if err != nil || n < sizeV2 {
		return
	}
	value := buf[:n]
	if value[revision] == 3 {
		value[revision] = 2
		value = value[:sizeV2]
	}
	header.PAXRecords = map[string]string{xattrPrefix + name: string(value)}
}
