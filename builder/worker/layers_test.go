package worker

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend"
)

// layerOf is the layer, as read, that a change makes of a directory.
func layerOf(t *testing.T, dir string, change func()) (*backend.Layer, []string) {
	t.Helper()
	before, err := marksOf(dir)
	assert.NilError(t, err)
	change()
	layer, err := measured(&layerContent{dir: dir, before: before})
	assert.NilError(t, err)
	var out bytes.Buffer
	if size, err := layer.Content.WriteTo(&out); err != nil || size != layer.Size || digest.FromBytes(out.Bytes()) != layer.DiffID {
		t.Errorf("%d bytes are written, not %d of %s: %v", size, layer.Size, layer.DiffID, err)
	}
	var entries []string
	for archive := tar.NewReader(&out); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return layer, entries
		}
		assert.NilError(t, err)
		entries = append(entries, fmt.Sprintf("%c %s %s", header.Typeflag, header.Name, header.Linkname))
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		assert.NilError(t, err)
	}
}

func TestALayerHasWhatChangedWithItsDirectoriesAndWhiteouts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("d/gone/deep"), 0o755), os.Mkdir(at("same"), 0o755))
	write(t, dir, "d/gone/deep/file", "")
	write(t, dir, "d/kept", "")
	write(t, dir, "d/removed", "")
	write(t, dir, "same/file", "")
	_, entries := layerOf(t, dir, func() {
		must(t, os.RemoveAll(at("d/gone")), os.Remove(at("d/removed")))
		write(t, dir, "d/new", "new")
		must(t, os.Link(at("d/new"), at("d/second")), os.Symlink("new", at("d/symlink")))
	})
	want := []string{"5 d/ ", "0 d/new ", "1 d/second d/new", "2 d/symlink new", "0 d/.wh.gone ", "0 d/.wh.removed "}
	assert.Check(t, slices.Equal(entries, want), "%q instead of %q", entries, want)
}

func TestADirectoryInPlaceOfAFileAndTheOtherWayRoundAreWritten(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "dir/in"), 0o755))
	write(t, dir, "file", "")
	_, entries := layerOf(t, dir, func() {
		must(t, os.RemoveAll(filepath.Join(dir, "dir")), os.Remove(filepath.Join(dir, "file")))
		write(t, dir, "dir", "a file now")
		must(t, os.Mkdir(filepath.Join(dir, "file"), 0o755))
		write(t, dir, "file/in", "")
	})
	want := []string{"0 dir ", "5 file/ ", "0 file/in "}
	assert.Check(t, slices.Equal(entries, want), "%q instead of %q", entries, want)
}

func TestTheSameRemovalsAreTheSameLayer(t *testing.T) {
	var first *backend.Layer
	for range 20 {
		dir := t.TempDir()
		for number := range 20 {
			write(t, dir, fmt.Sprint("f", number), "")
		}
		layer, entries := layerOf(t, dir, func() {
			for number := range 20 {
				must(t, os.Remove(filepath.Join(dir, fmt.Sprint("f", number))))
			}
		})
		assert.Assert(t, is.Len(entries, 20))
		if first == nil {
			first = layer
		}
		if layer.DiffID != first.DiffID {
			t.Fatalf("%s and %s", layer.DiffID, first.DiffID)
		}
	}
}

func TestWhatIsNotChangedMakesAnEmptyLayer(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "content")
	if layer, entries := layerOf(t, dir, func() {}); len(entries) != 0 || layer.DiffID != digest.FromBytes(make([]byte, 1024)) {
		t.Errorf("%s with %q", layer.DiffID, entries)
	}
}

func TestALayerIsTheMeasuredOneAsOftenAsItIsWritten(t *testing.T) {
	for _, size := range []int{1000, keptBytes + 1} {
		dir := t.TempDir()
		layer, _ := layerOf(t, dir, func() { write(t, dir, "file", strings.Repeat("x", size)) })
		if size <= keptBytes {
			write(t, dir, "file", "another one")
		}
		if content, ok := layer.Content.(io.Seeker); ok {
			_, err := content.Seek(0, io.SeekStart)
			must(t, err)
		}
		hash := sha256.New()
		_, err := layer.Content.WriteTo(hash)
		must(t, err)
		if again := digest.NewDigest(digest.SHA256, hash); again != layer.DiffID {
			t.Errorf("a layer of %d bytes is another one", layer.Size)
		}
	}
}
