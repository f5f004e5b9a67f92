package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/removal"
	"github.com/sockerless/sockerless/agent/host/confined"
)

// TestHostileEntriesAreRefusedByName: nothing of the layer stays, nothing
// outside it changes, and the message names the entry.
func TestHostileEntriesAreRefusedByName(t *testing.T) {
	for name, entries := range map[string][]entry{
		"../escape":              {{Name: "../escape", Linkname: "x"}},
		"/../../escape":          {{Name: "/../../escape", Linkname: "x"}},
		"a/../../escape":         {{Name: "a/../../escape", Linkname: "x"}},
		"..":                     {{Name: "..", Typeflag: tar.TypeDir}},
		"hard":                   {{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../../../../../../../etc/passwd"}},
		"hard-absolute":          {{Name: "hard-absolute", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"hard-link":              {{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "hard-link", Typeflag: tar.TypeLink, Linkname: "d/passwd"}},
		"hard-missing":           {{Name: "hard-missing", Typeflag: tar.TypeLink, Linkname: "nowhere"}},
		"hard-root":              {{Name: "hard-root", Typeflag: tar.TypeLink, Linkname: "."}},
		"loop/x":                 {{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"}, {Name: "loop/x"}},
		"file/x":                 {{Name: "file", Linkname: "x"}, {Name: "file/x"}},
		"./":                     {{Name: "./", Typeflag: tar.TypeSymlink, Linkname: "/"}},
		"a/.wh...":               {{Name: "a/.wh..."}},
		"a/.wh..":                {{Name: "a/.wh.."}},
		"a/.wh.":                 {{Name: "a/.wh."}},
		"nobody":                 {{Name: "nobody", Uid: 1<<32 - 1}},
		"device":                 {{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1 << 13}},
		strings.Repeat("n", 300): {{Name: strings.Repeat("n", 300)}},
	} {
		t.Run(name[:min(20, len(name))], func(t *testing.T) {
			store, dir := openStore(t)
			plain := tarOf(t, append([]entry{{Name: "first", Linkname: "x"}}, entries...)...)
			_, _, err := unpack(t, store, plain, plain)
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			wantNothingBut(t, dir, emptyName)
			wantNothingBut(t, filepath.Dir(dir), "layers")
		})
	}
}

func TestEntriesThroughLinksStayInside(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t,
		entry{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../../.."},
		entry{Name: "up/through-up", Linkname: "x"},
		entry{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/tmp/sockerless-escape"},
		entry{Name: "abs/through-abs", Linkname: "x"},
		entry{Name: "target", Typeflag: tar.TypeSymlink, Linkname: "/through-target"},
		entry{Name: "target", Linkname: "replaces the link"},
	)
	diff, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	for _, name := range []string{"through-up", "tmp/sockerless-escape/through-abs", "target"} {
		assert.Check(t, lstat(t, filepath.Join(diff, name)).Size != 0, "%s is not inside", name)
	}
	if _, err := os.Lstat("/tmp/sockerless-escape"); err == nil {
		t.Error("a link was followed out of the layer")
	}
	wantNothingBut(t, dir, filepath.Base(filepath.Dir(diff)), emptyName)
}

func TestBrokenBlobsLeaveNothing(t *testing.T) {
	plain := tarOf(t, entry{Name: "a", Linkname: strings.Repeat("content", 10_000)})
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	writer.Write(plain)
	writer.Close()
	damaged := bytes.Clone(compressed.Bytes())
	damaged[len(damaged)-6] ^= 1 // the checksum
	for name, c := range map[string]struct {
		blob []byte
		want connect.Code
	}{
		"truncated tar":       {plain[:5000], connect.CodeInvalidArgument},
		"garbage":             {bytes.Repeat([]byte("garbage!"), 1000), connect.CodeInvalidArgument},
		"truncated gzip":      {compressed.Bytes()[:compressed.Len()-20], connect.CodeInvalidArgument},
		"damaged gzip":        {damaged, connect.CodeInvalidArgument},
		"gzip header only":    {[]byte{0x1f, 0x8b, 8, 0}, connect.CodeInvalidArgument},
		"zstd header only":    {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0xff}, connect.CodeInvalidArgument},
		"zstd of 256 MiB":     {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 3, 0, 1, 0}, connect.CodeInvalidArgument},
		"nothing":             {nil, connect.CodeDataLoss},
		"something else":      {tarOf(t, entry{Name: "b"}), connect.CodeDataLoss},
		"bytes after the end": {append(bytes.Clone(plain), 1), connect.CodeDataLoss},
	} {
		t.Run(name, func(t *testing.T) {
			store, dir := openStore(t)
			if _, _, err := unpack(t, store, plain, c.blob); connect.CodeOf(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			wantNothingBut(t, dir, emptyName)
		})
	}
}

func TestASparseFileKeepsItsHoles(t *testing.T) {
	store, _ := openStore(t)
	huge := sparseTar(1<<30, 1<<30-4, "tail")
	diff, _, err := unpack(t, store, huge, huge)
	assert.NilError(t, err)
	stat := lstat(t, diff+"/sparse")
	if stat.Size != 1<<30 || stat.Blocks > 4096 {
		t.Errorf("size %d in %d blocks", stat.Size, stat.Blocks)
	}
	absurd := sparseTar(1<<60, 0, "head")
	if _, _, err := unpack(t, store, absurd, absurd); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("an exabyte: %v", err)
	}
}

func unpaused() error { return nil }

func TestDirectoriesThatWaitForTheirTimesAreBounded(t *testing.T) {
	dir := t.TempDir()
	root, err := confined.Open(dir)
	assert.NilError(t, err)
	defer root.Close()
	u, err := newUnpacker(unpaused, nil, root)
	assert.NilError(t, err)
	modified := time.Unix(7, 0)
	assert.NilError(t, os.Mkdir(filepath.Join(dir, "first"), 0o755))
	assert.NilError(t, u.keepDirectoryTime("first", modified))
	const long, most = 4000, maxDirectoryBytes/4000 + 1
	for n := range 3 * most {
		assert.NilError(t, u.keepDirectoryTime(fmt.Sprintf("%0*d", long, n), modified))
		if len(u.directoryTimes) > most {
			t.Fatalf("%d directories wait", len(u.directoryTimes))
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "first")); err != nil || !info.ModTime().Equal(modified) {
		t.Errorf("the first has %v, %v", info.ModTime(), err)
	}
}

// FuzzUnpack: run with -fuzzminimizetime 1x, since the coverage of file systems
// varies and minimising what seems new takes all the time else.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, entry{Name: "a/b", Linkname: "x"}, entry{Name: "c", Typeflag: tar.TypeSymlink, Linkname: "/"}, entry{Name: "c/d"}))
	f.Add(tarOf(f, entry{Name: "a/.wh.b"}, entry{Name: "a/b/c"}, entry{Name: "h", Typeflag: tar.TypeLink, Linkname: "a/b/c"}))
	f.Add(sparseTar(1<<20, 100, "x"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		dir := t.TempDir()
		assert.NilError(t, os.Mkdir(filepath.Join(dir, "diff"), 0o755))
		root, err := confined.Open(filepath.Join(dir, "diff"))
		assert.NilError(t, err)
		defer root.Close()
		u, err := newUnpacker(unpaused, bytes.NewReader(blob), root)
		assert.NilError(t, err)
		u.sparseAllowance = 1 << 21
		if err = u.unpackAll(); err != nil {
			err = classify(err)
		}
		if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("unclassified: %v", err)
		}
		for _, e := range entriesOf(t, dir) {
			assert.Check(t, e == "diff", "%s was made outside", e)
		}
		assert.Check(t, removal.Path(filepath.Join(dir, "diff")))
	})
}
