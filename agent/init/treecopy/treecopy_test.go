package treecopy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func must(t *testing.T, err error) {
	t.Helper()
	assert.NilError(t, err)
}

// describe lists everything that a copy must preserve, file by file.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	numbers := map[uint64]int{}
	must(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if numbers[st.Ino] == 0 {
			numbers[st.Ino] = len(numbers) + 1
		}
		line := fmt.Sprintf("%s %o %d:%d %d.%d", strings.TrimPrefix(path, root), st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			must(t, err)
			line += " -> " + target
		case entry.Type().IsRegular():
			content, err := os.ReadFile(path)
			must(t, err)
			value := make([]byte, 100)
			size, _ := unix.Lgetxattr(path, "user.note", value)
			line += fmt.Sprintf(" %q inode %d note %q", content, numbers[st.Ino], value[:max(size, 0)])
		case entry.Type()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func TestACopyIsWhatTheTreeIs(t *testing.T) {
	source, dest := filepath.Join(t.TempDir(), "source"), t.TempDir()
	at := func(name string) string { return filepath.Join(source, name) }
	must(t, os.MkdirAll(at("usr/bin"), 0o755))
	must(t, os.WriteFile(at("usr/bin/tool"), []byte("tool\x00"), 0o755))
	must(t, os.Link(at("usr/bin/tool"), at("usr/bin/alias")))
	must(t, os.Symlink("../../../../etc/passwd", at("usr/out")))
	must(t, os.Symlink("/nowhere", at("absolute")))
	must(t, unix.Mkfifo(at("pipe"), 0o620))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Lchown(at("usr/bin/tool"), 1000, 1001))
	must(t, os.Chmod(at("usr/bin/tool"), 0o755|os.ModeSetuid))
	must(t, unix.Setxattr(at("usr/bin/tool"), "user.note", []byte("kept"), 0))
	must(t, os.Mkdir(at("closed"), 0o700))
	must(t, os.Chmod(at("closed"), 0o1700))
	must(t, os.Lchown(at("closed"), 65534, 65534))
	past := []unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: 1_000_000_000, Nsec: 5}}
	for _, name := range []string{"usr/out", "usr/bin/tool", "usr/bin", "closed", "pipe", "."} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), past, unix.AT_SYMLINK_NOFOLLOW))
	}
	must(t, Copy(source, dest, Options{}))
	if got, want := describe(t, dest), describe(t, source); !slices.Equal(got, want) {
		t.Errorf("copied\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMountsAndWhatIsHiddenAreNotCopied(t *testing.T) {
	source, dest := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(source, name) }
	for _, directory := range []string{"proc", "own", "etc"} {
		must(t, os.Mkdir(at(directory), 0o755))
		must(t, os.WriteFile(at(directory+"/file"), nil, 0o644))
	}
	must(t, os.WriteFile(at("etc/hosts"), nil, 0o644))
	must(t, Copy(source, dest, Options{
		Hidden: map[string]bool{at("own"): true},
		Mounts: map[string]bool{at("proc"): true, at("etc/hosts"): true},
	}))
	var got []string
	for _, line := range describe(t, dest) {
		got = append(got, strings.Fields(line)[0])
	}
	if want := []string{"/etc", "/etc/file", "/proc"}; !slices.Equal(got[1:], want) {
		t.Errorf("copied %v", got)
	}
}
