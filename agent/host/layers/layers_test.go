package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/trash"
)

type entry = tar.Header

var modified = time.Unix(1_600_000_000, 123_000_000)

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, header := range entries {
		content := ""
		if header.Typeflag == 0 {
			header.Typeflag = tar.TypeReg
			content = header.Linkname
			header.Linkname = ""
			header.Size = int64(len(content))
		}
		if header.Mode == 0 {
			header.Mode = 0o755
		}
		header.Format = tar.FormatPAX
		if header.ModTime.IsZero() {
			header.ModTime = modified
		}
		assert.NilError(t, writer.WriteHeader(&header))
		io.WriteString(writer, content)
	}
	assert.NilError(t, writer.Close())
	return buffer.Bytes()
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func openStore(t testing.TB) (*Store, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers need root")
	}
	dir := filepath.Join(t.TempDir(), "layers")
	store, err := Open(dir, newCan(t))
	assert.NilError(t, err)
	t.Cleanup(store.Close)
	return store, dir
}

func newCan(t testing.TB) *trash.Can {
	t.Helper()
	can, err := trash.Open(t.TempDir())
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	return can
}

// unpack unpacks a blob with plain as its uncompressed bytes.
func unpack(t testing.TB, store *Store, plain, blob []byte) (diff string, size uint64, err error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	assert.NilError(t, os.WriteFile(name, blob, 0o600))
	layer, _, err := store.Unpack(context.Background(), digestOf(plain), name)
	if err != nil {
		return "", 0, err
	}
	stack, err := store.Stack([]string{digestOf(plain)})
	assert.NilError(t, err)
	return stack.Lower[0], layer.Size, nil
}

func lstat(t testing.TB, name string) unix.Stat_t {
	t.Helper()
	var stat unix.Stat_t
	assert.Check(t, unix.Lstat(name, &stat), name)
	return stat
}

func opaque(name string) bool {
	value := make([]byte, 8)
	n, err := unix.Lgetxattr(name, "trusted.overlay.opaque", value)
	return err == nil && string(value[:n]) == "y"
}

func TestUnpackKeepsWhatATarSays(t *testing.T) {
	store, _ := openStore(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	plain := tarOf(t,
		entry{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 5, Gid: 6},
		entry{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o1777},
		entry{Name: "bin/suid", Linkname: "content", Mode: 0o4755, Uid: 1000, Gid: 1001,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.colour": "blue",
				"SCHILY.xattr.trusted.overlay.opaque": "y"}},
		entry{Name: "bin/hard", Typeflag: tar.TypeLink, Linkname: "bin/suid"},
		entry{Name: "/absolute/deep/file", Linkname: "x"},
		entry{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/../../../passwd", Uid: 7},
		entry{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		entry{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 300, Mode: 0o660},
		entry{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o640},
		entry{Name: strings.Repeat("long/", 60) + "name", Linkname: "y"},
	)
	diff, size, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	assert.Check(t, size == 9, "size %d", size)
	root := lstat(t, diff)
	if root.Mode&0o7777 != 0o711 || root.Uid != 5 || root.Gid != 6 {
		t.Errorf("root: %+v", root)
	}
	if bin := lstat(t, diff+"/bin"); bin.Mode&0o7777 != 0o1777 || bin.Mtim.Sec != modified.Unix() || bin.Mtim.Nsec != 123_000_000 {
		t.Errorf("bin: %+v", bin)
	}
	suid := lstat(t, diff+"/bin/suid")
	if suid.Mode&0o7777 != 0o4755 || suid.Uid != 1000 || suid.Gid != 1001 || suid.Nlink != 2 || suid.Mtim.Sec != modified.Unix() {
		t.Errorf("suid: %+v", suid)
	}
	if hard := lstat(t, diff+"/bin/hard"); hard.Ino != suid.Ino {
		t.Error("a hard link became a copy")
	}
	for name, want := range map[string]string{"security.capability": capability, "user.colour": "blue", "trusted.overlay.opaque": ""} {
		value := make([]byte, 64)
		n, _ := unix.Lgetxattr(diff+"/bin/suid", name, value)
		if string(value[:max(n, 0)]) != want {
			t.Errorf("%s: %q", name, value[:max(n, 0)])
		}
	}
	if target, _ := os.Readlink(diff + "/link"); target != "/etc/../../../passwd" || lstat(t, diff+"/link").Uid != 7 {
		t.Errorf("link: %q", target)
	}
	for name, want := range map[string][2]uint32{"null": {1, 3}, "disk": {8, 300}} {
		stat := lstat(t, filepath.Join(diff, name))
		if unix.Major(stat.Rdev) != want[0] || unix.Minor(stat.Rdev) != want[1] {
			t.Errorf("%s: %d:%d", name, unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
		}
	}
	if fifo := lstat(t, diff+"/fifo"); fifo.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("fifo: %o", fifo.Mode)
	}
	if content, err := os.ReadFile(diff + "/absolute/deep/file"); err != nil || string(content) != "x" {
		t.Errorf("absolute name: %q, %v", content, err)
	}
	if stack, _ := store.Stack([]string{digestOf(plain)}); stack.RootSource != diff {
		t.Errorf("root source %q", stack.RootSource)
	}
}

func TestUnpackTurnsWhiteoutsIntoOverlayfsForm(t *testing.T) {
	store, _ := openStore(t)
	plain := tarOf(t,
		entry{Name: "a/.wh.gone"},
		entry{Name: "b/.wh..wh..opq"},
		entry{Name: "c/.wh.again"}, entry{Name: "c/again/", Typeflag: tar.TypeDir}, entry{Name: "c/again/x"},
		entry{Name: "d/.wh.through"}, entry{Name: "d/through/x"},
		entry{Name: "e/dir/x"}, entry{Name: "e/.wh.dir"},
		entry{Name: "f/file", Linkname: "new"}, entry{Name: "f/.wh.file"},
		entry{Name: "g/.wh.file"}, entry{Name: "g/file", Linkname: "new"},
		entry{Name: "h/.wh..wh.plnk"},
		entry{Name: ".wh..wh..opq"},
	)
	diff, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	if gone := lstat(t, diff+"/a/gone"); gone.Mode&unix.S_IFMT != unix.S_IFCHR || gone.Rdev != 0 {
		t.Errorf("a/gone: %+v", gone)
	}
	for name, want := range map[string]bool{"a": false, "b": true, "c/again": true, "d/through": true, "e/dir": true} {
		if opaque(filepath.Join(diff, name)) != want {
			t.Errorf("%s: opaque %t", name, !want)
		}
	}
	for _, name := range []string{"f/file", "g/file"} {
		if content, _ := os.ReadFile(filepath.Join(diff, name)); string(content) != "new" {
			t.Errorf("%s: %q", name, content)
		}
	}
	entries, _ := os.ReadDir(diff + "/h")
	assert.Check(t, is.Len(entries, 0), "h")
	below := tarOf(t, entry{Name: "below"})
	_, _, err = unpack(t, store, below, below)
	assert.NilError(t, err)
	stack, err := store.Stack([]string{digestOf(below), digestOf(plain)})
	if err != nil || len(stack.Lower) != 1 || stack.Lower[0] != diff {
		t.Errorf("an opaque root lets the layers beneath through: %+v, %v", stack, err)
	}
}

func TestALayerThatIsThereTwiceLiesWhereItIsTopmost(t *testing.T) {
	store, _ := openStore(t)
	twice, between := tarOf(t, entry{Name: "file", Linkname: "first"}), tarOf(t, entry{Name: "file", Linkname: "second"})
	for _, plain := range [][]byte{twice, between} {
		_, _, err := unpack(t, store, plain, plain)
		assert.NilError(t, err)
	}
	stack, err := store.Stack([]string{digestOf(twice), digestOf(between), digestOf(twice)})
	assert.NilError(t, err)
	merged := t.TempDir()
	assert.NilError(t, (mounts.Overlay{Lower: stack.Lower}).Mount(merged))
	defer mounts.Unmount(merged)
	if content, _ := os.ReadFile(merged + "/file"); string(content) != "first" {
		t.Errorf("file: %q", content)
	}
}

func TestLaterEntriesReplaceEarlierOnes(t *testing.T) {
	store, _ := openStore(t)
	plain := tarOf(t,
		entry{Name: "a", Linkname: "old"}, entry{Name: "a", Linkname: "new"},
		entry{Name: "b/x", Linkname: "x"}, entry{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a"},
		entry{Name: "c", Linkname: "x"}, entry{Name: "c/", Typeflag: tar.TypeDir},
		entry{Name: "d/x", Linkname: "kept"}, entry{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700},
	)
	diff, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	if content, _ := os.ReadFile(diff + "/b"); string(content) != "new" {
		t.Errorf("b -> a: %q", content)
	}
	if lstat(t, diff+"/c").Mode&unix.S_IFMT != unix.S_IFDIR || lstat(t, diff+"/d").Mode&0o777 != 0o700 {
		t.Error("c or d")
	}
	if content, _ := os.ReadFile(diff + "/d/x"); string(content) != "kept" {
		t.Errorf("d/x: %q", content)
	}
}

func TestUnpackRecognisesCompression(t *testing.T) {
	plain := tarOf(t, entry{Name: "a", Linkname: strings.Repeat("content", 1000)})
	var gzipped, zstandard bytes.Buffer
	g := gzip.NewWriter(&gzipped)
	g.Write(plain)
	g.Close()
	z, _ := zstd.NewWriter(&zstandard)
	z.Write(plain)
	z.Close()
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'h', 'i'}, zstandard.Bytes()...)
	for name, blob := range map[string][]byte{"plain": plain, "gzip": gzipped.Bytes(), "zstd": zstandard.Bytes(), "zstd after a skippable frame": skippable} {
		t.Run(name, func(t *testing.T) {
			store, _ := openStore(t)
			if _, size, err := unpack(t, store, plain, blob); err != nil || size != 7000 {
				t.Errorf("%d, %v", size, err)
			}
		})
	}
}

func TestAnEmptyLayer(t *testing.T) {
	store, _ := openStore(t)
	plain := tarOf(t)
	diff, size, err := unpack(t, store, plain, plain)
	if err != nil || size != 0 {
		t.Fatal(size, err)
	}
	if entries, err := os.ReadDir(diff); err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
}

func TestUnpackAndRemoveMayBeRepeated(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t, entry{Name: "a", Linkname: "four"})
	name := filepath.Join(t.TempDir(), "blob")
	os.WriteFile(name, plain, 0o600)
	for _, existed := range []bool{false, true} {
		layer, got, err := store.Unpack(t.Context(), digestOf(plain), name)
		if err != nil || got != existed || layer.Size != 4 {
			t.Errorf("size %d, existed %t, %v", layer.Size, got, err)
		}
	}
	for range 2 {
		assert.Check(t, store.Remove(t.Context(), digestOf(plain)))
	}
	if _, err := store.Stack([]string{digestOf(plain)}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v", err)
	}
	wantNothingBut(t, dir, emptyName)
}

func TestALayerWhoseRecordIsDamagedIsUnpackedAnew(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t, entry{Name: "a", Linkname: "four"})
	id, name := digestOf(plain), filepath.Join(t.TempDir(), "blob")
	os.WriteFile(name, plain, 0o600)
	_, _, err := store.Unpack(t.Context(), id, name)
	assert.NilError(t, err)
	record := filepath.Join(dir, id[len("sha256:"):][:nameLength], recordName)
	whole, err := os.ReadFile(record)
	assert.NilError(t, err)
	lost := []byte("lost by the disk")
	for _, content := range [][]byte{whole[:len(whole)/2], {}, bytes.Replace(whole, []byte(id), []byte(digestOf(nil)), 1), lost} {
		os.WriteFile(record, content, 0o600)
		if bytes.Equal(content, lost) { // the first page of this process cannot be read: EIO
			assert.NilError(t, errors.Join(os.Remove(record), os.Symlink("/proc/self/mem", record)))
		}
		if _, err := store.Stack([]string{id}); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%q: got %v", content, err)
		}
		if _, existed, err := store.Unpack(t.Context(), id, name); err != nil || existed {
			t.Errorf("%q: existed %t, %v", content, existed, err)
		}
		if _, err := store.Stack([]string{id}); err != nil {
			t.Errorf("%q: got %v", content, err)
		}
	}
	os.WriteFile(record, whole[:1], 0o600)
	assert.Check(t, store.Remove(t.Context(), id))
	wantNothingBut(t, dir, emptyName)
}

func TestALayerThatIsThereSaysNothingOfAnotherBlob(t *testing.T) {
	store, _ := openStore(t)
	plain := tarOf(t, entry{Name: "a", Linkname: "four"})
	blob := filepath.Join(t.TempDir(), "blob")
	os.WriteFile(blob, plain, 0o600)
	for _, size := range []uint64{uint64(len(plain)), 0} {
		layer, _, err := store.Unpack(t.Context(), digestOf(plain), blob)
		if err != nil || layer.TarSize != size {
			t.Errorf("%+v, want %d bytes, %v", layer, size, err)
		}
		os.WriteFile(blob, []byte("another one"), 0o600)
	}
}

func entriesOf(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantNothingBut(t testing.TB, dir string, names ...string) {
	t.Helper()
	if got := entriesOf(t, dir); strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %v", dir, got)
	}
}

func TestOpenDeletesWhatIsUnfinishedOrMayBeDamaged(t *testing.T) {
	store, dir := openStore(t)
	for name, record := range map[string]string{
		unfinished + "x":  "",
		"unsynced-before": `{"version":1,"boot_id":"another"}`,
		"no-record":       "",
		"damaged-record":  "\x00\x00",
		"durable-before":  `{"version":1,"boot_id":"another"}`,
	} {
		os.MkdirAll(filepath.Join(dir, name, "diff", "y"), 0o755)
		if record != "" {
			os.WriteFile(filepath.Join(dir, name, "layer.json"), []byte(record), 0o600)
		}
	}
	os.WriteFile(filepath.Join(dir, "durable-before", durableName), nil, 0o600)
	reopened, err := Open(dir, store.trash)
	assert.NilError(t, err)
	reopened.Close()
	wantNothingBut(t, dir, "durable-before", emptyName)
}

// A client decides how long such a tree takes to delete.
func TestWhatIsUnfinishedIsDeletedByTheTrashAlone(t *testing.T) {
	dir, trashed := t.TempDir(), t.TempDir()
	for _, name := range []string{unfinished + "x", "damaged"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(dir, name, "diff"), 0o755))
	}
	can, err := trash.Open(trashed)
	assert.NilError(t, err)
	can.Close() // what it gets stays
	store, err := Open(dir, can)
	assert.NilError(t, err)
	t.Cleanup(store.Close)
	wantTrashed := func(trees int) {
		t.Helper()
		wantNothingBut(t, dir, emptyName)
		if got := entriesOf(t, trashed); len(got) != trees {
			t.Errorf("there are %d trees in the trash, not %d", len(got), trees)
		}
	}
	wantTrashed(2)
	plain := tarOf(t, entry{Name: "a"})
	if _, _, err := unpack(t, store, plain, plain[:len(plain)/2]); err == nil {
		t.Error("half a layer was unpacked")
	}
	wantTrashed(3)
	for id, content := range map[string][]byte{"cut": plain[:len(plain)/2], "unwanted": plain} {
		upload, err := store.OpenUpload(id, filepath.Join(t.TempDir(), "blob"))
		assert.NilError(t, err)
		_ = upload.Take(t.Context(), bytes.NewReader(content))
		assert.Check(t, upload.Close())
	}
	wantTrashed(5)
}

func TestALayerBecomesDurableBehindTheAnswer(t *testing.T) {
	first, dir := openStore(t)
	store, err := Open(dir, first.trash)
	assert.NilError(t, err)
	plain := tarOf(t, entry{Name: "a"})
	diff, _, err := unpack(t, store, plain, plain)
	store.flusher.Settle(time.Hour) // as Close, however busy the disk
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(filepath.Dir(diff), durableName))
	assert.Check(t, err)
}

func TestABlobThatClaimsToBeALayerHoldsUpNobody(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t, entry{Name: "a", Linkname: "four"})
	own := filepath.Join(t.TempDir(), "own")
	os.WriteFile(own, plain, 0o600)
	// Millions of files in few bytes, all under one name.
	var header, content bytes.Buffer
	assert.NilError(t, tar.NewWriter(&header).WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644}))
	compressed := gzip.NewWriter(&content)
	compressed.Write(bytes.Repeat(header.Bytes(), 1_000))
	compressed.Close()
	claiming := filepath.Join(t.TempDir(), "claiming")
	os.WriteFile(claiming, bytes.Repeat(content.Bytes(), 10_000), 0o600)
	ctx, leave := context.WithCancel(t.Context())
	claimed := make(chan error, 1)
	go func() {
		_, _, err := store.Unpack(ctx, digestOf(plain), claiming)
		claimed <- err
	}()
	for len(entriesOf(t, dir)) < 2 { // until it unpacks
		select {
		case err := <-claimed:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	layer, existed, err := store.Unpack(t.Context(), digestOf(plain), own)
	if err != nil || existed || layer.Size != 4 {
		t.Errorf("%+v, existed %t, %v", layer, existed, err)
	}
	select {
	case err := <-claimed:
		t.Errorf("the blob that claims to be it was unpacked before: %v", err)
	default:
	}
	leave()
	if err := <-claimed; err == nil {
		t.Error("another blob was taken for the layer")
	}
	wantNothingBut(t, dir, digestOf(plain)[len("sha256:"):][:nameLength], emptyName)
}

func TestTwoBlobsOfALayerAreOne(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t, entry{Name: "a", Linkname: "four"})
	var found sync.WaitGroup
	for number := range 8 {
		name := filepath.Join(t.TempDir(), fmt.Sprint(number))
		os.WriteFile(name, plain, 0o600)
		found.Add(1)
		go func() {
			defer found.Done()
			if layer, _, err := store.Unpack(t.Context(), digestOf(plain), name); err != nil || layer.Size != 4 {
				t.Errorf("%+v, %v", layer, err)
			}
		}()
	}
	found.Wait()
	wantNothingBut(t, dir, digestOf(plain)[len("sha256:"):][:nameLength], emptyName)
}

func TestUnpackStopsWhenTheCallerLeaves(t *testing.T) {
	store, dir := openStore(t)
	plain := tarOf(t, entry{Name: "a"})
	name := filepath.Join(t.TempDir(), "blob")
	os.WriteFile(name, plain, 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := store.Unpack(ctx, digestOf(plain), name)
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	wantNothingBut(t, dir, emptyName)
}

func TestUnpackingStopsAtTheNextEntryWhenTheCallerLeaves(t *testing.T) {
	var entries []entry
	for number := range 100 { // as many as one block that was read ahead has
		entries = append(entries, entry{Name: fmt.Sprint(number) + strings.Repeat("/a", 500), Typeflag: tar.TypeDir})
	}
	content := bytes.NewReader(tarOf(t, entries...))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	target := filepath.Join(t.TempDir(), "diff")
	_, err := unpackTar(ctx, content, target)
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	assert.Check(t, is.Len(entriesOf(t, target), 0))
}
