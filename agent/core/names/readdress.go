package names

import (
	"os"
	"slices"
	"strings"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// Readdress gives the lines of a hosts file whose first name is an entry's
// first the entry's address, and leaves all others as they are.
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
	return os.WriteFile(path, []byte(after), info.Mode().Perm())
}
