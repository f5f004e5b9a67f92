package worker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// tarOf makes a tar of entries with content of their stated sizes.
func tarOf(t *testing.T, headers ...*tar.Header) *tar.Reader {
	t.Helper()
	var buffer bytes.Buffer
	writeEntries(t, &buffer, headers...)
	return tar.NewReader(&buffer)
}

func compressed(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var buffer bytes.Buffer
	packed := gzip.NewWriter(&buffer)
	writeEntries(t, packed, headers...)
	assert.NilError(t, packed.Close())
	return buffer.Bytes()
}

func writeEntries(t *testing.T, out io.Writer, headers ...*tar.Header) {
	t.Helper()
	archive := tar.NewWriter(out)
	for _, header := range headers {
		assert.NilError(t, archive.WriteHeader(header))
		_, err := archive.Write(make([]byte, header.Size))
		assert.NilError(t, err)
	}
	assert.NilError(t, archive.Close())
}

func file(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}
}

var wide = ContextLimits{Bytes: 1 << 20, Entries: 100}

func TestAContextIsUnpackedWithinItsLimits(t *testing.T) {
	for _, each := range []struct {
		limits  ContextLimits
		headers []*tar.Header
		refusal string
	}{
		{ContextLimits{Bytes: 20, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, ""},
		{ContextLimits{Bytes: 19, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, "larger than 19 bytes, the limit of builder.context_size"},
		{ContextLimits{Bytes: 20, Entries: 1}, []*tar.Header{file("a", 10), file("b", 10)}, "more than 1 entries"},
		{ContextLimits{Bytes: 20, Entries: 6}, []*tar.Header{file("d/e/f", 1), file("d/e/g", 1), file("d/h", 1), file("b", 10)}, ""},
		{ContextLimits{Bytes: 20, Entries: 5}, []*tar.Header{file("d/e/f", 1), file("d/e/g", 1), file("d/h", 1), file("b", 10)}, "more than 5 entries"},
	} {
		dir := t.TempDir()
		err := unpackContext(dir, tarOf(t, each.headers...), each.limits)
		switch {
		case each.refusal == "" && err != nil:
			t.Errorf("refused: %v", err)
		case each.refusal != "" && (err == nil || !strings.Contains(err.Error(), each.refusal)):
			t.Errorf("%q instead of %q", err, each.refusal)
		}
		if _, err := os.Lstat(filepath.Join(dir, "b")); (err == nil) != (each.refusal == "") {
			t.Errorf("b: %v", err)
		}
	}
}

func TestAnArchiveThatIsAddedIsMeasuredBeforeItIsUnpacked(t *testing.T) {
	directory := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
	}
	for _, each := range []struct {
		limits  ContextLimits
		headers []*tar.Header
		refusal string
	}{
		{ContextLimits{Bytes: 20, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, ""},
		{ContextLimits{Bytes: 19, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, "the archive a.tgz, unpacked, is larger than 19 bytes, the limit of builder.context_size"},
		{ContextLimits{Bytes: 20, Entries: 1}, []*tar.Header{file("a", 10), file("b", 10)}, "the archive a.tgz, unpacked, has more than 1 entries"},
		{ContextLimits{Bytes: 20, Entries: 4}, []*tar.Header{directory("./"), directory("d/"), file("d/e/f", 1), file("d/e/g", 1)}, ""},
		{ContextLimits{Bytes: 20, Entries: 3}, []*tar.Header{directory("./"), directory("d/"), file("d/e/f", 1), file("d/e/g", 1)}, "more than 3 entries"},
		{ContextLimits{Bytes: 20, Entries: 3}, []*tar.Header{directory("d"), directory("d"), directory("d"), directory("d")}, "more than 3 entries"},
	} {
		w := &Worker{limits: Limits{Context: each.limits}, scratch: t.TempDir()}
		skeleton := newTree(w, "", true)
		packed := filepath.Join(t.TempDir(), "a.tgz")
		assert.NilError(t, os.WriteFile(packed, compressed(t, each.headers...), 0o600))
		isArchive, err := w.showArchive(context.Background(), skeleton, packed, "a.tgz", "/to")
		switch {
		case !isArchive:
			t.Error("no archive")
		case each.refusal == "" && err != nil:
			t.Errorf("refused: %v", err)
		case each.refusal != "" && (err == nil || !strings.Contains(err.Error(), each.refusal)):
			t.Errorf("%q instead of %q", err, each.refusal)
		}
		assert.Check(t, skeleton.close())
	}
}

func TestAnArchiveThatIsAddedDemandsNoLargeWindow(t *testing.T) {
	w := &Worker{limits: Limits{Context: wide}, scratch: t.TempDir()}
	skeleton := newTree(w, "", true)
	defer skeleton.close()
	packed := filepath.Join(t.TempDir(), "a.tar.zst")
	assert.NilError(t, os.WriteFile(packed, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 3, 0, 16, 0}, 0o600))
	// BuildKit would unpack what is said to be no archive.
	if isArchive, err := w.showArchive(context.Background(), skeleton, packed, "a.tar.zst", "/to"); !isArchive || !demandsTooMuch(err) {
		t.Errorf("%v, %v", isArchive, err)
	}
}

func TestArchivesWithWindowsWaitForOthers(t *testing.T) {
	var packed bytes.Buffer
	if encoder, err := zstd.NewWriter(&packed); err != nil || encoder.Close() != nil {
		t.Fatal(err)
	}
	// An empty skippable frame: nothing precedes an archive's content.
	archive := append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, packed.Bytes()...)
	w := &Worker{limits: Limits{Context: wide}, scratch: t.TempDir()}
	var open []io.Closer
	for range maxWindowed {
		content, err := w.Decompress(t.Context(), bytes.NewReader(archive))
		assert.NilError(t, err)
		open = append(open, content)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.Decompress(impatient, bytes.NewReader(archive))
	assert.Check(t, is.ErrorIs(err, context.DeadlineExceeded), "one more")
	_, err = w.Decompress(impatient, bytes.NewReader(compressed(t)))
	assert.Check(t, err, "gzip")
	for _, each := range open {
		_, _ = each.Close(), each.Close()
	}
	everySlotIsFree(t)
	if left, err := os.ReadDir(w.scratch); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func everySlotIsFree(t *testing.T) {
	t.Helper()
	assert.Assert(t, decompressionSlots.TryAcquire(maxWindowed), "a slot is taken")
	decompressionSlots.Release(maxWindowed)
}

// zstdFile makes a file in zstd.
func zstdFile(t *testing.T, content []byte) string {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	assert.NilError(t, err)
	path := filepath.Join(t.TempDir(), "a.tar.zst")
	assert.NilError(t, os.WriteFile(path, encoder.EncodeAll(content, nil), 0o600))
	return path
}

func TestAnOperationTakesOneSlotForAllItsOutputs(t *testing.T) {
	o, packed := &fileOp{}, zstdFile(t, []byte("content"))
	var all sync.WaitGroup
	for range 2 * maxWindowed {
		all.Add(1)
		go func() {
			defer all.Done()
			assert.Check(t, o.acquireSlot(t.Context(), packed))
		}()
	}
	all.Wait()
	assert.Assert(t, decompressionSlots.TryAcquire(maxWindowed-1), "it takes several")
	decompressionSlots.Release(maxWindowed - 1)
	o.releaseSlot()
	everySlotIsFree(t)
}

func TestOnlyARegularFileIsOpenedForASlot(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	assert.NilError(t, unix.Mkfifo(pipe, 0o600))
	assert.Check(t, !fileHasWindow(pipe), "a pipe")
}

func TestAnArchiveThatIsAddedEndsBehindItsTar(t *testing.T) {
	w := &Worker{limits: Limits{Context: wide}, scratch: t.TempDir()}
	skeleton := newTree(w, "", true)
	defer skeleton.close()
	var tarball bytes.Buffer
	writeEntries(t, &tarball, &tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755})
	for trailer, refusal := range map[int]string{maxTrailer / 2: "", 2 * maxTrailer: "behind its end"} {
		packed := zstdFile(t, append(bytes.Clone(tarball.Bytes()), make([]byte, trailer)...))
		isArchive, err := w.showArchive(t.Context(), skeleton, packed, "a.tar.zst", "/to")
		if !isArchive || (err == nil) != (refusal == "") || err != nil && !strings.Contains(err.Error(), refusal) {
			t.Errorf("%d bytes: %v, %v", trailer, isArchive, err)
		}
	}
}

func TestAnEntryOfManyDirectoriesIsRefused(t *testing.T) {
	dir := t.TempDir()
	err := unpackContext(dir, tarOf(t, file(strings.Repeat("d/", 3000)+"f", 0)), wide)
	assert.Check(t, is.ErrorIs(err, unix.ENAMETOOLONG))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestAContextKeepsTheTimesOfDirectoriesAndLinks(t *testing.T) {
	then := time.Unix(1_610_612_736, 0)
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755},
		file("d/f", 1),
		{Typeflag: tar.TypeDir, Name: "d/sub/", Mode: 0o755},
		file("d/sub/f", 1),
		{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "f"},
		{Typeflag: tar.TypeSymlink, Name: "d/dangling", Linkname: "/nowhere"},
	}
	for i, header := range headers {
		header.ModTime = then.Add(time.Duration(i) * time.Second)
	}
	replaced := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "was", Mode: 0o755}, {Typeflag: tar.TypeDir, Name: "was/d", Mode: 0o755}, file("was", 1),
	}
	dir := t.TempDir()
	assert.NilError(t, unpackContext(dir, tarOf(t, append(headers, replaced...)...), wide))
	for _, header := range headers {
		info, err := os.Lstat(filepath.Join(dir, header.Name))
		assert.NilError(t, err)
		if !info.ModTime().Equal(header.ModTime) {
			t.Errorf("%s: %v instead of %v", header.Name, info.ModTime(), header.ModTime)
		}
	}
}

func TestAContextStaysWithinItsDirectory(t *testing.T) {
	outside := t.TempDir()
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: outside}
	for name, headers := range map[string][]*tar.Header{
		"upwards":        {file("../up", 1)},
		"through a link": {link, file("out/planted", 1)},
		"a hard link":    {link, {Typeflag: tar.TypeLink, Name: "hard", Linkname: "out/secret"}},
		"a device":       {{Typeflag: tar.TypeChar, Name: "device", Devmajor: 1, Devminor: 3}},
	} {
		if err := unpackContext(t.TempDir(), tarOf(t, headers...), wide); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}
