package identity

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// Limits, since the files come from an image.
const (
	maxFileBytes = 16 << 20
	maxLineBytes = 1 << 20
	// maxFields is more than a line of either file has; further fields stay
	// joined.
	maxFields = 8
	// maxNameBytes is LOGIN_NAME_MAX.
	maxNameBytes = 256
)

// ErrTooLarge refuses to read a file that is too large or has too long a line.
var ErrTooLarge = fmt.Errorf("larger than %d MiB, or a line of it than %d MiB", maxFileBytes>>20, maxLineBytes>>20)

// ResolveIn is Resolve with the files of a root file system. Links in /etc and
// beneath are followed within that root; a missing file counts as empty.
func ResolveIn(root *os.File, spec string, additionalGroups []string) (Identity, error) {
	var files Files
	for name, reader := range map[string]*io.Reader{"etc/passwd": &files.Passwd, "etc/group": &files.Group} {
		file, err := openIn(root, name)
		if err != nil {
			return Identity{}, err
		}
		if file != nil {
			defer file.Close()
			*reader = io.LimitReader(file, maxFileBytes) // it may have grown
		}
	}
	return Resolve(files, spec, additionalGroups)
}

// NamesIn returns the names of the wanted users, from the passwd file of a root
// file system.
func NamesIn(root *os.File, wanted func(uid uint32) bool) (map[uint32]string, error) {
	names := map[uint32]string{}
	file, err := openIn(root, "etc/passwd")
	if err != nil || file == nil {
		return names, err
	}
	defer file.Close()
	err = forEachLine(io.LimitReader(file, maxFileBytes), func(fields []string) bool {
		uid, isNumber, err := parseID(field(fields, 2))
		if isNumber && err == nil && wanted(uid) && names[uid] == "" && len(fields[0]) <= maxNameBytes {
			names[uid] = fields[0]
		}
		return true
	})
	return names, err
}

// CheckForRuntime refuses passwd and group files that an OCI runtime, which reads
// them again, would never finish reading or would read differently from Resolve:
// anything but a regular file may have no end, and runc before 1.3 takes a
// group's number for another group's name (its libcontainer/user,
// GetAdditionalGroups).
func CheckForRuntime(root *os.File, gids []uint32) error {
	for _, name := range []string{"etc/passwd", "etc/group"} {
		switch there, err := lookAt(root, name); {
		case err != nil:
			return err
		case there != nil:
			there.Close()
			if !there.plain {
				return fmt.Errorf("the container's /%s is not a regular file", name)
			}
		}
	}
	file, err := openIn(root, "etc/group")
	if err != nil || file == nil {
		return err
	}
	defer file.Close()
	var misleading error
	used := setOf(gids)
	err = forEachLine(io.LimitReader(file, maxFileBytes), func(fields []string) bool {
		number, isNumber, err := parseID(fields[0])
		if gid, _, gidErr := parseID(field(fields, 2)); isNumber && err == nil && (gidErr != nil || gid != number) && used[number] {
			misleading = fmt.Errorf("the container's /etc/group has a group named %d that is not group %d", number, number)
		}
		return misleading == nil
	})
	return cmp.Or(err, misleading)
}

// openIn opens a regular file within root; nil if there is none. It checks the
// type before opening: the image may have a device, a pipe or a link into procfs
// there, and opening that with the agent's rights would reach the machine.
func openIn(root *os.File, name string) (*os.File, error) {
	there, err := lookAt(root, name)
	if err != nil || there == nil {
		return nil, err
	}
	defer there.Close()
	if !there.plain {
		return nil, nil
	}
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", there.Fd())) // the same file
	if err != nil {
		return nil, fmt.Errorf("open the container's /%s: %w", name, err)
	}
	return file, nil
}

// found is a file of a container, opened with O_PATH.
type found struct {
	*os.File
	plain bool // a regular file, and not the kernel's
}

// lookAt returns nil if the file does not exist, and ErrTooLarge if it is too
// large.
func lookAt(root *os.File, name string) (*found, error) {
	fd, err := openat.Open(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open the container's /%s: %w", name, err)
	}
	there := &found{File: os.NewFile(uintptr(fd), name)}
	var stat unix.Stat_t
	var system unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &stat), unix.Fstatfs(fd, &system)); err != nil {
		there.Close()
		return nil, fmt.Errorf("look at the container's /%s: %w", name, err)
	}
	there.plain = stat.Mode&unix.S_IFMT == unix.S_IFREG && system.Type != unix.PROC_SUPER_MAGIC && system.Type != unix.SYSFS_MAGIC
	if there.plain && stat.Size > maxFileBytes {
		there.Close()
		return nil, fmt.Errorf("the container's /%s: %w", name, ErrTooLarge)
	}
	return there, nil
}

// forEachLine calls visit with the colon-separated fields of each non-empty line
// until visit returns false.
func forEachLine(file io.Reader, visit func(fields []string) bool) error {
	if file == nil {
		return nil
	}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, maxLineBytes)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line != "" && !visit(strings.SplitN(line, ":", maxFields)) {
			return nil
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return ErrTooLarge
	}
	return scanner.Err()
}

func field(fields []string, index int) string {
	if index < len(fields) {
		return fields[index]
	}
	return ""
}
