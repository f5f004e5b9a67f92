package identity

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The files come from an image, so what is read of them is bounded.
const (
	maxFileBytes = 16 << 20
	maxLineBytes = 1 << 20
)

// ResolveIn is Resolve with the files of a root file system. Links in /etc and
// beneath are followed within that root; a missing file is an empty one.
func ResolveIn(root *os.File, spec string, additionalGroups []string) (Identity, error) {
	var files Files
	for name, reader := range map[string]*io.Reader{"etc/passwd": &files.Passwd, "etc/group": &files.Group} {
		file, err := openIn(root, name)
		if err != nil {
			return Identity{}, err
		}
		if file != nil {
			defer file.Close()
			*reader = io.LimitReader(file, maxFileBytes)
		}
	}
	return Resolve(files, spec, additionalGroups)
}

// openIn opens a regular file within root; nil where there is none. It does not
// block on a fifo that an image puts in the file's place.
func openIn(root *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENXIO):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open the container's /%s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), "/"+name)
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// forEachLine calls visit with the colon-separated fields of each line that
// has any, until visit answers false.
func forEachLine(file io.Reader, visit func(fields []string) bool) error {
	if file == nil {
		return nil
	}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, maxLineBytes)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !visit(strings.Split(line, ":")) {
			return nil
		}
	}
	return scanner.Err()
}

func field(fields []string, index int) string {
	if index < len(fields) {
		return fields[index]
	}
	return ""
}
