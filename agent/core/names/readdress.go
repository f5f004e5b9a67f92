package names

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Readdress puts an entry's address into the lines of a hosts file whose first
// name is the entry's first, and leaves all other lines as they are.
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

// maxHosts bounds what is read of a file that the container can write.
const maxHosts = 1 << 20

// ReaddressFile is Readdress in place, for a file that is mounted. One that is
// not there, or no file any more, is nobody's.
func ReaddressFile(path string, entries []*agentv1.HostsEntry) error {
	info, err := os.Lstat(path)
	if len(entries) == 0 || os.IsNotExist(err) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxHosts) {
		return nil
	}
	if err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	after := Readdress(string(before), entries)
	if after == string(before) {
		return nil
	}
	return RewriteFile(path, before, []byte(after))
}

// RewriteFile replaces the content of a file in place, for one that is mounted.
// Where there is no room for the new content the old one stays, whole.
func RewriteFile(path string, before, after []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err = overwrite(file, after); err != nil {
		err = errors.Join(err, overwrite(file, before)) // has its room still
	}
	return errors.Join(err, file.Close())
}

func overwrite(file *os.File, content []byte) error {
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(content)))
}
