package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/zstdstream"
)

func TestATreeComesBackAsItWasTaken(t *testing.T) {
	needRoot(t)
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/sub/f", strings.Repeat("content", 1000)}, [2]string{"d/s", "->/etc/passwd"}, [2]string{"d/up", "->sub/f"},
		[2]string{"d/" + strings.Repeat("long/", 60) + "name", "deep"}, [2]string{"dest/", ""})
	must(t, os.Link(filepath.Join(dir, "d/sub/f"), filepath.Join(dir, "d/z")))
	must(t, unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(dir, "d/null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(filepath.Join(dir, "d/null"), 0o666))
	must(t, os.Lchown(filepath.Join(dir, "d/sub/f"), 3_000_000, 7))
	must(t, os.Lchown(filepath.Join(dir, "d/s"), 11, 12))
	must(t, os.Chmod(filepath.Join(dir, "d/sub/f"), 0o751|os.ModeSetuid|os.ModeSetgid))
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	must(t, unix.Setxattr(filepath.Join(dir, "d/sub/f"), "security.capability", []byte(capability), 0))
	must(t, os.Chmod(filepath.Join(dir, "d/sub"), 0o700|os.ModeSticky))
	must(t, os.Chtimes(filepath.Join(dir, "d/sub"), time.Unix(5, 0), time.Unix(1000, 0)))
	must(t, os.Chtimes(filepath.Join(dir, "d"), time.Unix(5, 0), time.Unix(2000, 0)))

	first := get(t, r, "/d")
	must(t, put(t, r, "/dest", first, PutOptions{}))
	second := get(t, r, "/dest/d")
	if !bytes.Equal(first, second) {
		one, two := headers(t, first), headers(t, second)
		for i := range min(len(one), len(two)) {
			t.Logf("%+v\n%+v", one[i], two[i])
		}
		t.Error("the trees differ")
	}
}

func TestTimesKeepTheirFractions(t *testing.T) {
	r, dir, _ := newRoot(t)
	m := file("f", "x")
	m.header.Format = tar.FormatPAX
	m.header.ModTime = time.Unix(1700000000, 123456789)
	must(t, put(t, r, "/", pack(t, m), PutOptions{}))
	info, err := os.Stat(filepath.Join(dir, "f"))
	must(t, err)
	if !info.ModTime().Equal(m.header.ModTime) {
		t.Errorf("time %v", info.ModTime())
	}
}

func TestWhatIsThereIsReplacedOrMerged(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"x/inside", "old"}, [2]string{"y", "old"}, [2]string{"m/kept", "old"}, [2]string{"l", "->/y"})
	must(t, put(t, r, "/", pack(t, file("x", "file"), directory("y"), file("y/f", "new"), directory("m"), file("m/n", "new"), file("l", "no link")), PutOptions{}))
	for name, want := range map[string]string{"x": "file", "y/f": "new", "m/kept": "old", "m/n": "new", "l": "no link"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestNoOverwriteDirNonDirRefusesInDockersWords(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/x/inside", "kept"}, [2]string{"d/y", "kept"}, [2]string{"link", "->d"})
	no := PutOptions{NoOverwriteDirNonDir: true}
	if err := put(t, r, "/link", pack(t, file("x", "")), no); err == nil || err.Error() != `cannot overwrite directory "/d/x" with non-directory "/d"` {
		t.Errorf("%v", err)
	}
	if err := put(t, r, "/d", pack(t, directory("y")), no); err == nil || err.Error() != `cannot overwrite non-directory "/d/y" with directory "/d"` {
		t.Errorf("%v", err)
	}
	if content(t, filepath.Join(dir, "d/x/inside")) != "kept" || content(t, filepath.Join(dir, "d/y")) != "kept" {
		t.Error("something was overwritten")
	}
	must(t, put(t, r, "/d", pack(t, file("y", "new")), no))
}

func TestTheDestinationMustBeADirectory(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"f", ""}, [2]string{"l", "->/f"})
	for _, path := range []string{"/f", "/l"} {
		if err := put(t, r, path, pack(t), PutOptions{}); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrStream) || err.Error() != "extraction point is not a directory" {
			t.Errorf("%s: %v", path, err)
		}
	}
	assert.Check(t, is.ErrorIs(put(t, r, "/none", pack(t), PutOptions{}), ErrNotFound), "missing")
}

func TestEntriesThatLeadOutAreRefused(t *testing.T) {
	for want, m := range map[string]member{
		`"../../evil" is outside of "/d"`:                      file("../../evil", "x"),
		`"../evil" is outside of "/d"`:                         file("a/../../evil", "x"),
		`invalid hardlink "/secret" -> "../secret"`:            link(tar.TypeLink, "h", "../secret"),
		`invalid hardlink "/etc/passwd" -> "../../etc/passwd"`: link(tar.TypeLink, "h", "../../etc/passwd"),
		`invalid symlink "/d/s" -> "../../etc"`:                link(tar.TypeSymlink, "s", "../../etc"),
	} {
		r, dir, outside := newRoot(t)
		plant(t, dir, [2]string{"d/", ""}, [2]string{"secret", "x"})
		if err := put(t, r, "/d", pack(t, m), PutOptions{}); !errors.Is(err, ErrStream) || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "d")); len(left) > 0 {
			t.Errorf("%s: %v was made", want, left)
		}
		if left, _ := os.ReadDir(outside); len(left) != 1 {
			t.Errorf("%s: %v is outside", want, left)
		}
	}
}

func TestAbsoluteNamesAndLinksStayInTheRoot(t *testing.T) {
	r, dir, outside := newRoot(t)
	plant(t, outside, [2]string{"secret", "outside"})
	plant(t, dir, [2]string{"d/", ""}, [2]string{"etc/", ""}, [2]string{"d/up", "->" + strings.Repeat("../", 20) + outside}, [2]string{"d/abs", "->/etc"})
	must(t, put(t, r, "/d", pack(t,
		file("/absolute", "in d"),
		file("abs/passwd", "in the root's etc"),
		link(tar.TypeSymlink, "own", "/etc"),
		file("own/group", "too"),
	), PutOptions{}))
	for name, want := range map[string]string{"d/absolute": "in d", "etc/passwd": "in the root's etc", "etc/group": "too"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	// The link to outside means a path that does not exist in the root.
	if err := put(t, r, "/d", pack(t, link(tar.TypeLink, "stolen", "up/secret")), PutOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("hard link through a link: %v", err)
	}
	assert.Check(t, is.ErrorIs(put(t, r, "/d/up", pack(t, file("evil", "")), PutOptions{}), ErrNotFound), "destination through a link")
	assert.Check(t, content(t, filepath.Join(outside, "secret")) == "outside", "a file outside changed")
}

func TestMissingParentsAreMade(t *testing.T) {
	r, dir, _ := newRoot(t)
	must(t, put(t, r, "/", pack(t, file("a/b/c/f", "x")), PutOptions{}))
	info, err := os.Stat(filepath.Join(dir, "a/b"))
	must(t, err)
	if info.Mode() != os.ModeDir|0o755 || content(t, filepath.Join(dir, "a/b/c/f")) != "x" {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestTheOwnerCanBeChosen(t *testing.T) {
	needRoot(t)
	r, dir, _ := newRoot(t)
	must(t, put(t, r, "/", pack(t, directory("d"), file("d/f", ""), link(tar.TypeSymlink, "d/l", "f")), PutOptions{Owner: &Owner{UID: 1000, GID: 50}}))
	for _, name := range []string{"d", "d/f", "d/l"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, name), &st))
		if st.Uid != 1000 || st.Gid != 50 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
}

func TestABrokenStreamIsTheRequestsFault(t *testing.T) {
	r, _, _ := newRoot(t)
	whole := pack(t, file("f", strings.Repeat("x", 5000)))
	for name, stream := range map[string][]byte{
		"cut in the content": whole[:2000],
		"cut in the header":  whole[:300],
		"no tar at all":      bytes.Repeat([]byte("garbage!"), 200),
		"bad checksum":       append([]byte("F"), whole[1:]...),
		"broken gzip":        {0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"xz":                 {0xfd, '7', 'z', 'X', 'Z', 0, 0, 0},
		"unknown type":       pack(t, link('Z', "x", "")),
	} {
		if err := put(t, r, "/", stream, PutOptions{}); !errors.Is(err, ErrStream) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, put(t, r, "/", nil, PutOptions{})) // as Docker has it
}

func TestAStreamThatWasCutIsNotTheRequestsFault(t *testing.T) {
	r, _, _ := newRoot(t)
	cut := errors.New("the connection broke")
	whole := pack(t, file("f", strings.Repeat("x", 5000)))
	for _, at := range []int{0, 100, 700, 3000, len(whole) - 10} {
		stream := io.MultiReader(bytes.NewReader(whole[:at]), iotest.ErrReader(cut))
		if err := r.Put(t.Context(), "/", stream, PutOptions{}); !errors.Is(err, cut) || errors.Is(err, ErrInvalid) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
}

func TestCompressedStreamsAreRecognised(t *testing.T) {
	plain := pack(t, file("f", "compressed"))
	var zipped, zstandard bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	gz.Write(plain)
	gz.Close()
	zs, err := zstd.NewWriter(&zstandard)
	must(t, err)
	zs.Write(plain)
	zs.Close()
	bzipped, err := base64.StdEncoding.DecodeString(bzip2Tar)
	must(t, err)
	for name, stream := range map[string][]byte{"gzip": zipped.Bytes(), "zstd": zstandard.Bytes(), "bzip2": bzipped} {
		r, dir, _ := newRoot(t)
		must(t, put(t, r, "/", stream, PutOptions{}))
		if got := content(t, filepath.Join(dir, "f")); got != "compressed" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWindowsOfZstdAreBounded(t *testing.T) {
	r, _, _ := newRoot(t)
	quarterGiB := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 3, 0, 1, 0}
	assert.Check(t, is.ErrorIs(put(t, r, "/", quarterGiB, PutOptions{}), zstdstream.ErrWindow), "a large one")
	for {
		held, err := zstdstream.Clients.Open(bufio.NewReader(bytes.NewReader(nil)), 1)
		if err != nil {
			break
		}
		defer held.Close()
	}
	small := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3, 1, 0, 0}
	assert.Check(t, is.ErrorIs(put(t, r, "/", small, PutOptions{}), zstdstream.ErrNoRoom), "one too many")
}

func TestPuttingReadsTheStreamToItsEnd(t *testing.T) {
	r, _, _ := newRoot(t)
	stream := bytes.NewReader(append(pack(t, file("f", "")), make([]byte, 100_000)...))
	must(t, r.Put(t.Context(), "/", stream, PutOptions{}))
	if stream.Len() > 0 {
		t.Errorf("%d bytes are left", stream.Len())
	}
}

func TestWhiteoutNamesAreOrdinary(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"x", "kept"})
	must(t, put(t, r, "/", pack(t, file(".wh.x", "w"), file(".wh..wh..opq", "o")), PutOptions{}))
	if content(t, filepath.Join(dir, "x")) != "kept" || content(t, filepath.Join(dir, ".wh.x")) != "w" {
		t.Error("a whiteout took effect")
	}
}

func TestAReadOnlyFileSystemHasItsOwnError(t *testing.T) {
	needRoot(t)
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"m/", ""})
	must(t, unix.Mount("tmpfs", filepath.Join(dir, "m"), "tmpfs", unix.MS_RDONLY, ""))
	defer unix.Unmount(filepath.Join(dir, "m"), unix.MNT_DETACH)
	refuses := func(r *Root, name, words string) {
		t.Helper()
		if err := put(t, r, name, pack(t, file("f", "")), PutOptions{}); !errors.Is(err, ErrReadOnly) || err.Error() != words {
			t.Errorf("%s: %v", name, err)
		}
	}
	refuses(r, "/m", "mounted volume is marked read-only")
	inside := openRoot(t, filepath.Join(dir, "m"))
	defer inside.Close()
	refuses(inside, "/", "container rootfs is marked read-only")
	must(t, put(t, r, "/", pack(t, file("f", "")), PutOptions{}))
}

func TestPuttingEndsWithItsContext(t *testing.T) {
	r, _, _ := newRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	stream := io.MultiReader(bytes.NewReader(pack(t, file("f", strings.Repeat("x", 4<<20)))[:3<<20]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}))
	assert.Check(t, is.ErrorIs(r.Put(ctx, "/", stream, PutOptions{}), context.Canceled))
}

func TestTimesOfDirectoriesEndWithTheirContext(t *testing.T) {
	r, _, _ := newRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	x := &extractor{ctx: ctx, root: r, dest: "/", parentFD: -1}
	defer x.forgetParent()
	must(t, x.extract(&tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755}))
	cancel()
	assert.Check(t, is.ErrorIs(x.setDirTimes(), context.Canceled))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// bzip2Tar is a tar stream with the file f; Go cannot write bzip2.
const bzip2Tar = "" +
	"QlpoOTFBWSZTWY0vVAoAAHX7hMoAAEBAAH+AAADvAt4AAACACCAAdQ0p4piNNNGgHpqCSmk0eoNNAAH3m7tFCDaQCRTFxpuSMIJI" +
	"GUBu2aKSpooFlqk97GNFWGBxQxs/l69N8gMM15xlk8gjwIiD8XckU4UJCNL1QKA="

func TestDirectoriesThatWaitForTheirTimesHaveABound(t *testing.T) {
	r, _, _ := newRoot(t)
	x := &extractor{ctx: t.Context(), root: r, dest: "/", parentFD: -1}
	defer x.forgetParent()
	name := strings.Repeat(strings.Repeat("d", 250)+"/", 15)
	most := 0
	for range 10_000 {
		must(t, x.extract(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}))
		most = max(most, len(x.dirs)*len(name))
	}
	assert.Check(t, most <= 32<<20, "%d bytes of names wait", most)
}
