package archive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// live takes the inventory of a directory.
func live(t testing.TB, dir string, bounds Bounds) Live {
	t.Helper()
	root, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	before, err := TakeInventory(t.Context(), root, bounds, 1<<20)
	must(t, err)
	return Live{Root: root, Before: before, Bounds: bounds}
}

func (l Live) told(t testing.TB) []string {
	t.Helper()
	var told []string
	must(t, l.Changes(t.Context(), func(change Change) error {
		told = append(told, string("?CAD"[change.Kind])+" "+change.Path)
		return nil
	}))
	return told
}

func (l Live) wantChanges(t testing.TB, want ...string) {
	t.Helper()
	if told := l.told(t); !slices.Equal(told, want) {
		t.Errorf("changes are\n%q, want\n%q", told, want)
	}
}

// afterwards ensures that later writes get another time.
func afterwards(t testing.TB, dir string) {
	t.Helper()
	stamp := func() int64 {
		name := filepath.Join(dir, ".stamp")
		must(t, os.WriteFile(name, nil, 0o600))
		info, err := os.Stat(name)
		must(t, err)
		must(t, os.Remove(name))
		return info.Sys().(*syscall.Stat_t).Ctim.Nano()
	}
	for first := stamp(); stamp() == first; time.Sleep(time.Millisecond) {
	}
}

func TestAnInventoryShowsChangesOnly(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, [2]string{"same", "1"}, [2]string{"edited", "1"}, [2]string{"sized", "1"}, [2]string{"moded", "1"}, [2]string{"gone", "1"},
		[2]string{"a/b/c/deep", "1"}, [2]string{"a/b/other", "1"}, [2]string{"a/untouched/x", "1"}, [2]string{"tree/x/y", "1"}, [2]string{"tree/z", "1"},
		[2]string{"link", "->same"}, [2]string{"becomes-dir", "1"}, [2]string{"becomes-file/x", "1"}, [2]string{"dir-mode/x", "1"}, [2]string{"same-time", "1"},
		[2]string{"touched", "1"}, [2]string{"moved", "1"})
	l := live(t, dir, Bounds{})
	l.wantChanges(t)
	afterwards(t, t.TempDir())
	in := func(name string) string { return filepath.Join(dir, name) }
	was, err := os.Stat(in("touched"))
	must(t, err)
	must(t, os.WriteFile(in("edited"), []byte("2"), 0o644))
	must(t, os.WriteFile(in("sized"), []byte("22"), 0o644))
	must(t, os.Chtimes(in("sized"), time.Time{}, was.ModTime()))
	must(t, os.Chmod(in("moded"), 0o600))
	must(t, os.Remove(in("gone")))
	must(t, os.WriteFile(in("a/b/c/deep"), []byte("22"), 0o644))
	must(t, os.RemoveAll(in("tree")))
	must(t, os.Remove(in("link")))
	must(t, os.Symlink("elsewhere", in("link")))
	must(t, os.Remove(in("becomes-dir")))
	plant(t, dir, [2]string{"becomes-dir/new", "1"}, [2]string{"new/inside", "1"}, [2]string{"etc/hosts", "ours"}, [2]string{".dockerenv", ""})
	must(t, os.RemoveAll(in("becomes-file")))
	must(t, os.WriteFile(in("becomes-file"), nil, 0o644))
	must(t, os.Chmod(in("dir-mode"), 0o700))
	must(t, os.Chmod(in("same-time"), 0o600))
	must(t, os.Chmod(in("same-time"), 0o644)) // nothing is left of it
	must(t, os.Rename(in("moved"), in("moved-to")))
	l.wantChanges(t, "C /a", "C /a/b", "C /a/b/c", "C /a/b/c/deep", "C /becomes-dir", "A /becomes-dir/new", "C /becomes-file",
		"C /dir-mode", "C /edited", "D /gone", "C /link", "C /moded", "D /moved", "A /moved-to", "A /new", "A /new/inside", "C /sized", "D /tree")
}

func TestWhatWasWrittenIsCountedOnceHoweverManyNamesItHas(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, [2]string{"same", "12345"}, [2]string{"gone", "12345"}, [2]string{"edited", "1"})
	l := live(t, dir, Bounds{})
	want := func(bytes uint64) {
		t.Helper()
		written, err := l.WrittenBytes(t.Context())
		must(t, err)
		assert.Check(t, written == bytes, "%d bytes, want %d", written, bytes)
	}
	want(0)
	afterwards(t, t.TempDir())
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(in("edited"), []byte("333"), 0o644))
	must(t, os.WriteFile(in("new"), make([]byte, 1000), 0o644))
	must(t, os.Link(in("new"), in("linked")))
	must(t, os.Symlink("ten-letter", in("symlink")))
	must(t, os.Mkdir(in("directory"), 0o755))
	must(t, os.Remove(in("gone")))
	want(3 + 1000 + 10)
}

func TestALayerHasWhatWasWrittenAndMarksForWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, [2]string{"same", "1"}, [2]string{"gone", "1"}, [2]string{"d/gone", "1"}, [2]string{"d/same", "1"}, [2]string{"rewritten", "1"})
	l := live(t, dir, Bounds{})
	afterwards(t, t.TempDir())
	was, err := os.Stat(filepath.Join(dir, "rewritten"))
	must(t, err)
	plant(t, dir, [2]string{"new/file", "2"})
	must(t, os.Link(filepath.Join(dir, "new/file"), filepath.Join(dir, "new/name")))
	must(t, os.Remove(filepath.Join(dir, "gone")))
	must(t, os.Remove(filepath.Join(dir, "d/gone")))
	must(t, os.WriteFile(filepath.Join(dir, "rewritten"), []byte("2"), 0o644))
	must(t, os.Chtimes(filepath.Join(dir, "rewritten"), time.Time{}, was.ModTime()))
	var out bytes.Buffer
	must(t, l.WriteLayer(t.Context(), &out, nil))
	var entries []string
	for _, header := range headers(t, out.Bytes()) {
		entries = append(entries, string(header.Typeflag)+header.Name)
	}
	if want := []string{"5d/", "0d/.wh.gone", "0.wh.gone", "5new/", "0new/file", "1new/name", "0rewritten"}; !slices.Equal(entries, want) {
		t.Errorf("entries %q, want %q", entries, want)
	}
}

func TestMountsAndWhatIsTheAgentsDoNotShow(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, [2]string{"volume/image", "hidden by the mount"}, [2]string{"agent/binary", "x"}, [2]string{"file-mount", "x"}, [2]string{"a/mount/x", "x"}, [2]string{"kept/x", "x"})
	bounds := Bounds{
		Mounts: MountsOf([]byte("1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /volume rw,relatime - nfs x rw\n3 1 0:3 / /file-mount rw - x x rw\n4 1 0:4 / /a/mount rw - x x\n5 1 0:5 / /with\\040blank rw - x x\n")),
		Hidden: map[string]bool{"/agent": true},
	}
	if !bounds.Mounts["/with blank"] || bounds.Mounts["/"] || len(bounds.Mounts) != 4 {
		t.Errorf("mounts %v", bounds.Mounts)
	}
	l := live(t, dir, bounds)
	if files := l.Before.Files(); files != 6 { // a, a/mount, file-mount, kept, kept/x, volume
		t.Errorf("%d files", files)
	}
	plant(t, dir, [2]string{"volume/new", "x"}, [2]string{"agent/log", "x"}, [2]string{"file-mount", "changed"}, [2]string{"a/mount/y", "x"})
	must(t, os.Chmod(filepath.Join(dir, "volume"), 0o700))
	l.wantChanges(t)
	var out bytes.Buffer
	must(t, l.WriteTar(t.Context(), &out))
	var entries []string
	for _, header := range headers(t, out.Bytes()) {
		entries = append(entries, header.Name)
	}
	if want := []string{"a/", "a/mount/", "kept/", "kept/x", "volume/"}; !slices.Equal(entries, want) {
		t.Errorf("entries %q", entries)
	}
	out.Reset()
	must(t, l.WriteLayer(t.Context(), &out, nil))
	if entries := headers(t, out.Bytes()); len(entries) != 0 {
		t.Errorf("the layer has %d entries", len(entries))
	}
}

func TestADirectoryOfManyFilesIsComparedInParts(t *testing.T) {
	dir := t.TempDir()
	was := namesAtOnce
	t.Cleanup(func() { namesAtOnce = was })
	namesAtOnce = 100
	for n := range 2*namesAtOnce + 10 {
		fd, err := unix.Open(filepath.Join(dir, fmt.Sprint("f", n)), unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		unix.Close(fd)
	}
	l := live(t, dir, Bounds{})
	l.wantChanges(t)
	must(t, os.Remove(filepath.Join(dir, "f7")))
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o644))
	told := l.told(t)
	slices.Sort(told)
	assert.Check(t, slices.Equal(told, []string{"A /new", "D /f7"}), "changes %q", told)
	root, err := os.Open(dir)
	must(t, err)
	defer root.Close()
	_, err = TakeInventory(t.Context(), root, Bounds{}, namesAtOnce)
	assert.Check(t, is.ErrorIs(err, ErrTooMany), "beyond the limit")
}

func TestDevicesAreComparedByTheirNumbers(t *testing.T) {
	dir := t.TempDir()
	device := filepath.Join(dir, "device")
	make := func(number int) {
		if err := unix.Mknod(device, unix.S_IFCHR|0o600, number); err != nil {
			t.Skip("needs CAP_MKNOD: ", err)
		}
		must(t, os.Chtimes(device, time.Time{}, time.Unix(1, 0)))
	}
	make(int(unix.Mkdev(1, 3)))
	l := live(t, dir, Bounds{})
	l.wantChanges(t)
	must(t, os.Remove(device))
	make(int(unix.Mkdev(1, 5)))
	l.wantChanges(t, "C /device")
}

// manyFiles is the file system of a large image.
func manyFiles(t testing.TB, count int) string {
	t.Helper()
	dir := t.TempDir()
	for n := range count {
		name := filepath.Join(dir, fmt.Sprintf("usr/lib/package-%03d/module-%d", n/250, n/25%10), strings.Repeat("x", n%20)+fmt.Sprint(n))
		if n%25 == 0 {
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		}
		fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		unix.Close(fd)
	}
	return dir
}

func BenchmarkInventory(b *testing.B) {
	dir := manyFiles(b, 50_000)
	root, err := os.Open(dir)
	must(b, err)
	defer root.Close()
	for b.Loop() {
		i, err := TakeInventory(b.Context(), root, Bounds{}, 1<<20)
		must(b, err)
		b.ReportMetric(float64(len(i.names)+len(i.items)*56+len(i.directories)*8)/float64(i.Files()), "bytes/file")
	}
}

func BenchmarkLiveChanges(b *testing.B) {
	l := live(b, manyFiles(b, 50_000), Bounds{})
	for b.Loop() {
		assert.Assert(b, is.Len(l.told(b), 0))
	}
}
