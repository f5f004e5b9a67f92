package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/levels"
)

func TestStatDescribesTheLastElementItself(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/f", "12345"}, [2]string{"d/abs", "->/d/f"}, [2]string{"d/up", "->../../../../d"},
		[2]string{"d/none", "->/nowhere/x"}, [2]string{"d/loop", "->loop"})
	must(t, os.Chmod(filepath.Join(dir, "d/f"), 0o751|os.ModeSetuid))
	for _, c := range []struct {
		path, name, target string
		mode               os.FileMode
		size               int64
	}{
		{"/d/f", "f", "", 0o751 | os.ModeSetuid, 5},
		{"d/f", "f", "", 0o751 | os.ModeSetuid, 5},
		{"/d/../d/./f", "f", "", 0o751 | os.ModeSetuid, 5},
		{"/../../d/f", "f", "", 0o751 | os.ModeSetuid, 5},
		{"/d/abs", "abs", "/d/f", 0o777 | os.ModeSymlink, 4},
		{"/d/up", "up", "/d", 0o777 | os.ModeSymlink, 13},
		{"/d/up/f", "f", "", 0o751 | os.ModeSetuid, 5},
		{"/d/none", "none", "/nowhere/x", 0o777 | os.ModeSymlink, 10},
		{"/d/up/", "up", "", 0o755 | os.ModeDir, -1},
		{"/d/.", ".", "", 0o755 | os.ModeDir, -1},
		{"/", "/", "", 0o755 | os.ModeDir, -1},
	} {
		stat, err := r.Stat(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if stat.Name != c.name || stat.LinkTarget != c.target || stat.Mode != c.mode || c.size >= 0 && stat.Size != c.size {
			t.Errorf("%s: %+v", c.path, stat)
		}
	}
}

func TestStatReportsErrors(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"f", ""}, [2]string{"loop", "->loop"})
	for path, kind := range map[string]error{
		"/nowhere":  ErrNotFound,
		"/x\x00y":   ErrInvalid,
		"/f/":       unix.ENOTDIR,
		"/f/x":      unix.ENOTDIR,
		"/loop":     unix.ELOOP,
		"/loop/x":   unix.ELOOP,
		"/nowhere/": ErrNotFound,
	} {
		_, err := r.Stat(path)
		assert.Check(t, is.ErrorIs(err, kind), path)
		if errors.Is(kind, unix.ENOTDIR) {
			if _, err := r.Stat(path); errors.Is(err, ErrNotFound) {
				t.Errorf("%q counts as not found", path)
			}
		}
	}
}

func TestTheTopEntryIsThePathsLastElement(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"a/d/x", ""}, [2]string{"a/d/e/y", ""}, [2]string{"a/l", "->/a/d"})
	for path, want := range map[string][]string{
		"/a/d":   {"d/", "d/e/", "d/e/y", "d/x"},
		"/a/d/":  {"d/", "d/e/", "d/e/y", "d/x"},
		"/a/d/.": {"./", "./e/", "./e/y", "./x"},
		"/a/d/x": {"x"},
		"/a/l":   {"l"},
		"/a/l/":  {"l/", "l/e/", "l/e/y", "l/x"},
		"/a/l/.": {"./", "./e/", "./e/y", "./x"},
		"/":      {"/", "/a/", "/a/d/", "/a/d/e/", "/a/d/e/y", "/a/d/x", "/a/l"},
		"/.":     {"./", "./a/", "./a/d/", "./a/d/e/", "./a/d/e/y", "./a/d/x", "./a/l"},
	} {
		if got := names(t, get(t, r, path)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestFileSystemsOfTheKernelShowAsEmptyDirectories(t *testing.T) {
	r := openRoot(t, "/")
	for path, want := range map[string][]string{"/proc": {"proc/"}, "/proc/self/.": {"./"}} {
		if got := names(t, get(t, r, path)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestEveryKindOfFileIsSentAsItIs(t *testing.T) {
	needRoot(t)
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/a", "content"}, [2]string{"d/s", "->/etc/passwd"})
	must(t, os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "d/b")))
	must(t, unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o640))
	must(t, unix.Mknod(filepath.Join(dir, "d/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	listener, err := net.Listen("unix", filepath.Join(dir, "d/socket"))
	must(t, err)
	defer listener.Close()
	must(t, os.Lchown(filepath.Join(dir, "d/a"), 3_000_000, 4_000_000))
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	must(t, unix.Setxattr(filepath.Join(dir, "d/a"), "security.capability", []byte(capability), 0))
	must(t, os.Chtimes(filepath.Join(dir, "d/a"), time.Unix(1, 5), time.Unix(1234567890, 999)))

	byName := map[string]*tar.Header{}
	for _, h := range headers(t, get(t, r, "/d")) {
		byName[h.Name] = h
	}
	a := byName["d/a"]
	if a.Typeflag != tar.TypeReg || a.Size != 7 || a.Uid != 3_000_000 || a.Gid != 4_000_000 || !a.ModTime.Equal(time.Unix(1234567890, 0)) ||
		a.PAXRecords["SCHILY.xattr.security.capability"] != capability || a.Uname != "" {
		t.Errorf("a: %+v", a)
	}
	if b := byName["d/b"]; b.Typeflag != tar.TypeLink || b.Linkname != "d/a" || b.Size != 0 {
		t.Errorf("b: %+v", b)
	}
	if s := byName["d/s"]; s.Typeflag != tar.TypeSymlink || s.Linkname != "/etc/passwd" {
		t.Errorf("s: %+v", s)
	}
	if f := byName["d/fifo"]; f.Typeflag != tar.TypeFifo || f.Mode&0o777 != 0o640&^int64(0o022) && f.Mode != 0o640 {
		t.Errorf("fifo: %+v", f)
	}
	if n := byName["d/null"]; n.Typeflag != tar.TypeChar || n.Devmajor != 1 || n.Devminor != 3 {
		t.Errorf("null: %+v", n)
	}
	assert.Check(t, byName["d/socket"] == nil, "a socket was sent")
}

// writerFunc lets a test act in the middle of a stream.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestAFileThatChangesItsSizeDoesNotBreakTheStream(t *testing.T) {
	const size = 8 << 20
	for _, newSize := range []int64{3 << 20, 2 * size} {
		r, dir, _ := newRoot(t)
		plant(t, dir, [2]string{"d/big", strings.Repeat("x", size)}, [2]string{"d/next", "whole"})
		tree, err := r.Get("/d")
		must(t, err)
		var out bytes.Buffer
		changed := false
		must(t, tree.WriteTar(t.Context(), writerFunc(func(p []byte) (int, error) {
			if !changed {
				changed = true
				must(t, os.Truncate(filepath.Join(dir, "d/big"), newSize))
			}
			return out.Write(p)
		})))
		tree.Close()
		if got := headers(t, out.Bytes()); len(got) != 3 || got[1].Size != size {
			t.Errorf("resized to %d: %d entries", newSize, len(got))
		}
		_, dest, _ := newRoot(t)
		target := openRoot(t, dest)
		must(t, put(t, target, "/", out.Bytes(), PutOptions{}))
		target.Close()
		assert.Check(t, content(t, filepath.Join(dest, "d/next")) == "whole", "resized to %d: the next file is not whole", newSize)
	}
}

func TestGettingEndsWithItsContext(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/a", ""})
	tree, err := r.Get("/d")
	must(t, err)
	defer tree.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	assert.Check(t, is.ErrorIs(tree.WriteTar(ctx, &bytes.Buffer{}), context.Canceled))
}

func TestATreeDeeperThanAPathCanBeIsRefused(t *testing.T) {
	r, dir, _ := newRoot(t)
	makeDeep(t, dir, levels.Most+2)
	tree, err := r.Get("/d")
	must(t, err)
	defer tree.Close()
	assert.Check(t, is.ErrorContains(tree.WriteTar(t.Context(), &bytes.Buffer{}), "directories deep"))
}

func makeDeep(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		below, err := unix.Openat(fd, "d", unix.O_PATH, 0)
		must(t, err)
		unix.Close(fd)
		fd = below
	}
	unix.Close(fd)
}

// A client that does not read keeps directories open.
func TestDeepTreesThatNobodyReadsLeaveDescriptorsToOthers(t *testing.T) {
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: before.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	r, dir, _ := newRoot(t)
	makeDeep(t, dir, 100)
	// More than is buffered: who writes it has all levels open.
	bottom := filepath.Join(dir, strings.Repeat("d/", 100), "file")
	must(t, os.WriteFile(bottom, make([]byte, 2*copyBuffer), 0o644))
	errs := make(chan error)
	reading, stop := io.Pipe()
	for range 8 {
		tree, err := r.Get("/d")
		must(t, err)
		defer tree.Close()
		go func() { errs <- tree.WriteTar(t.Context(), stop) }()
	}
	assert.Check(t, is.ErrorIs(<-errs, levels.ErrNoRoom))
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(entries) > 600 {
		t.Error(len(entries), err)
	}
	must(t, reading.Close())
	for range 7 {
		<-errs
	}
	tree, err := r.Get("/d")
	must(t, err)
	defer tree.Close()
	assert.Check(t, tree.WriteTar(t.Context(), io.Discard))
}

func TestArchivesThatNobodyReadsHoldLittleMemory(t *testing.T) {
	const many, mostBytes = 64, 16 << 20
	r, dir, _ := newRoot(t)
	must(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 4<<20), 0o644))
	for name, write := range map[string]func(io.Writer) error{
		"a path": func(w io.Writer) error {
			tree, err := r.Get("/file")
			must(t, err)
			defer tree.Close()
			return tree.WriteTar(t.Context(), w)
		},
		"a file system": func(w io.Writer) error { return Layers{Upper: dir}.WriteTar(t.Context(), w) },
	} {
		before := heap()
		client := unread{began: make(chan struct{}), gone: make(chan struct{})}
		written := make(chan error)
		for range many {
			go func() { written <- write(client) }()
		}
		for range many {
			<-client.began
		}
		held := heap() - before
		assert.Check(t, held < mostBytes, "%s: %d KiB each", name, held/many>>10)
		close(client.gone)
		for range many {
			assert.Check(t, is.ErrorIs(<-written, io.ErrClosedPipe))
		}
	}
}

// unread is a client that does not read.
type unread struct{ began, gone chan struct{} }

func (u unread) Write([]byte) (int, error) {
	u.began <- struct{}{}
	<-u.gone
	return 0, io.ErrClosedPipe
}

// heap returns the bytes in use, without what pools keep.
func heap() int {
	var now runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&now)
	return int(now.HeapAlloc)
}

func TestRemembersNamesOfHardLinksOnlyToABound(t *testing.T) {
	a := &appender{seen: map[inode]string{}}
	const names = 100
	name := strings.Repeat("n", 2*maxLinkedText/names)
	for i := range uint64(names) {
		a.linked(&unix.Stat_t{Nlink: 2, Ino: i}, &tar.Header{Name: name})
	}
	if len(a.seen) != names/2 {
		t.Errorf("%d names are remembered", len(a.seen))
	}
	assert.Check(t, a.linked(&unix.Stat_t{Nlink: 2, Ino: 0}, &tar.Header{Name: "again"}), "a remembered file is not a link")
}
