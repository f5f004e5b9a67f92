package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// rootOf creates a root file system with an empty etc beside a directory of the
// host's, and opens it.
func rootOf(t *testing.T) (dir string, root *os.File) {
	t.Helper()
	outside := t.TempDir()
	dir = filepath.Join(outside, "root")
	for _, path := range []string{filepath.Join(dir, "etc"), filepath.Join(dir, "real"), filepath.Join(outside, "real")} {
		must(t, os.MkdirAll(path, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(outside, "real", "passwd"), []byte("alice:x:1:1:::\n"), 0o644))
	root, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return dir, root
}

func must(t *testing.T, err error) {
	t.Helper()
	assert.NilError(t, err)
}

func TestResolveInStaysWithinTheRoot(t *testing.T) {
	dir, root := rootOf(t)
	must(t, os.WriteFile(filepath.Join(dir, "real", "passwd"), []byte("alice:x:2:2:::\n"), 0o644))
	for _, target := range []string{"../../real/passwd", "/real/passwd", "../../../../../../../../real/passwd"} {
		must(t, os.Symlink(target, filepath.Join(dir, "etc", "passwd")))
		got, err := ResolveIn(root, "alice", nil)
		if err != nil || got.UID != 2 {
			t.Errorf("%s: got %+v, %v: want the root's own passwd", target, got, err)
		}
		must(t, os.Remove(filepath.Join(dir, "etc", "passwd")))
	}
	_, err := ResolveIn(root, "alice", nil)
	assert.Check(t, is.ErrorIs(err, ErrNoUserEntry), "without a passwd file")
}

// within fails a test whose call hangs.
func within(t *testing.T, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s: the look-up hangs", what)
		return nil
	}
}

func TestWhatIsNoRegularFileIsNotOpened(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: devices")
	}
	dir, root := rootOf(t)
	passwd := filepath.Join(dir, "etc", "passwd")
	for what, make := range map[string]func() error{
		"a pipe":         func() error { return unix.Mkfifo(passwd, 0o666) },
		"a device":       func() error { return unix.Mknod(passwd, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"a block device": func() error { return unix.Mknod(passwd, unix.S_IFBLK|0o666, int(unix.Mkdev(7, 255))) },
		"a directory":    func() error { return os.Mkdir(passwd, 0o755) },
		"a socket":       func() error { return unix.Mknod(passwd, unix.S_IFSOCK|0o666, 0) },
	} {
		must(t, make())
		opened := openings(t, passwd)
		err := within(t, what, func() error { _, err := ResolveIn(root, "1000", nil); return err })
		if err != nil || opened() {
			t.Errorf("%s: opened %t, %v", what, opened(), err)
		}
		must(t, os.Remove(passwd))
	}
	must(t, os.WriteFile(passwd, nil, 0o644))
	opened := openings(t, passwd)
	if _, err := ResolveIn(root, "1000", nil); err != nil || !opened() {
		t.Errorf("a regular file: opened %t, %v", opened(), err)
	}
}

// openings watches a file; the returned function reports whether it has been
// opened.
func openings(t *testing.T, name string) func() bool {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { unix.Close(watch) })
	_, err = unix.InotifyAddWatch(watch, name, unix.IN_OPEN)
	must(t, err)
	seen := false
	return func() bool {
		n, _ := unix.Read(watch, make([]byte, 4096))
		seen = seen || n > 0
		return seen
	}
}

// Reading /proc/kmsg consumes the machine's messages and waits for the next.
func TestFilesOfTheKernelAreNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir, root := rootOf(t)
	must(t, os.Mkdir(filepath.Join(dir, "proc"), 0o755))
	runtime.LockOSThread() // The thread ends with the test, and its mounts with it.
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""))
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "proc"), unix.MNT_DETACH) })
	must(t, root.Close())
	root, err := os.Open(dir)
	must(t, err)
	defer root.Close()
	for _, name := range []string{"kmsg", "version"} {
		must(t, os.Symlink("../proc/"+name, filepath.Join(dir, "etc", "passwd")))
		file, err := openIn(root, "etc/passwd")
		if file != nil || err != nil {
			t.Errorf("/proc/%s was opened, %v", name, err)
		}
		must(t, os.Remove(filepath.Join(dir, "etc", "passwd")))
	}
}

func TestTheFilesAreReadWithinBounds(t *testing.T) {
	dir, root := rootOf(t)
	passwd, group := filepath.Join(dir, "etc", "passwd"), filepath.Join(dir, "etc", "group")
	giant := func(name string) {
		file, err := os.Create(name)
		must(t, err)
		must(t, file.Truncate(1<<40))
		must(t, file.Close())
	}
	fill := func(name, line string) {
		must(t, os.WriteFile(name, []byte(strings.Repeat(line, maxFileBytes/len(line))), 0o644))
	}
	var before, after runtime.MemStats
	for what, c := range map[string]struct {
		make func()
		want error
	}{
		"a giant passwd file":        {func() { giant(passwd) }, ErrTooLarge},
		"a giant group file":         {func() { giant(group) }, ErrTooLarge},
		"a giant line":               {func() { fill(passwd, "x") }, ErrTooLarge},
		"a giant line of separators": {func() { fill(group, ":") }, ErrTooLarge},
		"many lines":                 {func() { fill(passwd, "a:x:1000:0::/:\n") }, nil},
		"many groups":                {func() { fill(group, "a:x:1:alice\n") }, nil},
		"many lines of separators":   {func() { fill(passwd, strings.Repeat(":", 1<<16)+"\n") }, nil},
	} {
		must(t, os.WriteFile(passwd, []byte("alice:x:1000:100::/:\n"), 0o644))
		must(t, os.WriteFile(group, nil, 0o644))
		c.make()
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := ResolveIn(root, "1000", []string{"77"})
		runtime.ReadMemStats(&after)
		assert.Check(t, is.ErrorIs(err, c.want), what)
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
			t.Errorf("%s took %d MiB", what, grown>>20)
		}
	}
	var distinct strings.Builder
	for gid := range maxGroups + 10 {
		fmt.Fprintf(&distinct, "g:x:%d:alice\n", gid)
	}
	must(t, os.WriteFile(passwd, []byte("alice:x:1000:100::/:\n"), 0o644))
	must(t, os.WriteFile(group, []byte(distinct.String()), 0o644))
	if _, err := ResolveIn(root, "1000", nil); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("more groups than a process can have: %v", err)
	}
}

func TestFilesThatARuntimeWouldMisreadAreRefused(t *testing.T) {
	dir, root := rootOf(t)
	passwd, group := filepath.Join(dir, "etc", "passwd"), filepath.Join(dir, "etc", "group")
	gids := []uint32{100, 29}
	for content, refused := range map[string]bool{
		"":                               false,
		"29:x:29:\n30:x:0:\naudio:x:29:": false,
		"audio:x:29:\n29:x:0:":           true,
		"100:x:4294967396:":              true,
		"+29:x:0:":                       true,
		"29":                             true,
	} {
		must(t, os.WriteFile(group, []byte(content), 0o644))
		if err := CheckForRuntime(root, gids); (err != nil) != refused {
			t.Errorf("%q: %v", content, err)
		}
	}
	must(t, os.Remove(group))
	for _, name := range []string{passwd, group} {
		must(t, CheckForRuntime(root, gids))
		must(t, unix.Mkfifo(name, 0o666))
		if err := CheckForRuntime(root, gids); err == nil {
			t.Errorf("a pipe at %s", name)
		}
		must(t, os.Remove(name))
	}
}

// Both are at their bounds: an image's file, and what a client asks for.
func TestManyGroupsAreLookedForInALongFile(t *testing.T) {
	dir, root := rootOf(t)
	const lines, wanted = 800_000, 50_000
	var file strings.Builder
	for n := range lines {
		fmt.Fprintf(&file, "g%07d:x:%d\n", n, n)
	}
	must(t, os.WriteFile(filepath.Join(dir, "etc", "group"), []byte(file.String()), 0o644))
	names, numbers := make([]string, wanted), make([]uint32, wanted)
	for n := range wanted {
		names[n], numbers[n] = fmt.Sprintf("g%07d", lines-1-n), uint32(lines+n)
	}
	must(t, within(t, "a look-up", func() error {
		got, err := ResolveIn(root, "", names)
		if len(got.AdditionalGIDs) != 1+wanted {
			t.Errorf("%d groups, %v", len(got.AdditionalGIDs), err)
		}
		return err
	}))
	file.Reset()
	for n := range lines {
		fmt.Fprintf(&file, "%d:x:1\n", n)
	}
	must(t, os.WriteFile(filepath.Join(dir, "etc", "group"), []byte(file.String()), 0o644))
	must(t, within(t, "a check", func() error { return CheckForRuntime(root, numbers) }))
}
