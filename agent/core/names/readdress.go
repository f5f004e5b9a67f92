package names

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Readdress updates the address in those lines of a hosts file whose first name
// is an entry's first, and leaves all other lines unchanged.
func Readdress(content string, entries []*agentv1.HostsEntry) string {
	lines := strings.SplitAfter(content, "\n")
	for i, line := range lines {
		address, rest, found := strings.Cut(line, "\t")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 || strings.HasPrefix(address, "#") {
			continue
		}
		at := slices.IndexFunc(entries, func(entry *agentv1.HostsEntry) bool {
			return len(entry.Names) > 0 && entry.Names[0] == fields[0]
		})
		if at >= 0 {
			lines[i] = entries[at].Address + "\t" + rest
		}
	}
	return strings.Join(lines, "")
}

// maxNameFile bounds how much is read of a file that the container can write.
const maxNameFile = 1 << 20

// ReadNameFile reads a name file, which the container may change at any moment.
// It returns nil if the file is missing, too long, or replaced by something else.
func ReadNameFile(path string) ([]byte, error) {
	info, err := os.Lstat(path) // before opening it: a device may act on that
	if os.IsNotExist(err) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxNameFile) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxNameFile+1)) // it may have grown
	if err != nil || len(content) > maxNameFile {
		return nil, err
	}
	return content, nil
}

// ReaddressFile applies Readdress in place, since the file is mounted. A missing
// file, or one replaced by something else, is left alone.
func ReaddressFile(path string, entries []*agentv1.HostsEntry) error {
	if len(entries) == 0 {
		return nil
	}
	before, err := ReadNameFile(path)
	if err != nil {
		return err
	}
	after := Readdress(string(before), entries)
	if after == string(before) {
		return nil
	}
	return RewriteFile(path, before, []byte(after))
}

// RewriteFile replaces a mounted file's content in place. If there is no room for
// the new content, the old one is restored. It fails at once if the container holds a
// lease on the file.
func RewriteFile(path string, before, after []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err = overwrite(file, after); err != nil {
		err = errors.Join(err, overwrite(file, before)) // its room is still allocated
	}
	return errors.Join(err, file.Close())
}

func overwrite(file *os.File, content []byte) error {
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(content)))
}
