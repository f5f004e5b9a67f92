package layers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/zstd"
	"gotest.tools/v3/assert"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// layerPart is a part for a blob that unpacks to plain.
func layerPart(t testing.TB, blob, plain []byte) *hostv1.LayerTar {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	assert.NilError(t, os.WriteFile(path, blob, 0o600))
	digest := sha256.Sum256(plain)
	return &hostv1.LayerTar{BlobPath: path, DiffId: "sha256:" + hex.EncodeToString(digest[:]), Size: uint64(len(plain))}
}

// written is the archive of a layer between two words.
func written(t testing.TB, layer *hostv1.LayerTar) (string, error) {
	t.Helper()
	store, _ := openStore(t)
	forget, err := store.OfferArchive("id", []*hostv1.ArchivePart{
		{Part: &hostv1.ArchivePart_Content{Content: []byte("before")}},
		{Part: &hostv1.ArchivePart_Layer{Layer: layer}},
		{Part: &hostv1.ArchivePart_Content{Content: []byte("behind")}},
	})
	assert.NilError(t, err)
	if _, err := store.OfferArchive("id", nil); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("offered again: %v", err)
	}
	archive := store.FindArchive("id")
	forget()
	assert.Check(t, store.FindArchive("id") == nil, "it is found when it is forgotten")
	var out bytes.Buffer
	err = archive.WriteTar(t.Context(), &out)
	return out.String(), err
}

func TestAnArchiveHasItsPartsOneBehindTheOther(t *testing.T) {
	plain := []byte(strings.Repeat("0123456789", 100_000))
	for compression, blob := range map[string][]byte{
		"none": plain,
		"gzip": gzipped(t, plain),
		"zstd": zipped(t, plain, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
	} {
		if out, err := written(t, layerPart(t, blob, plain)); err != nil || out != "before"+string(plain)+"behind" {
			t.Errorf("%s: %d bytes, %v", compression, len(out), err)
		}
	}
}

func TestAnArchiveWhoseLayerIsDamagedIsCut(t *testing.T) {
	plain := []byte(strings.Repeat("0123456789", 100_000))
	another := append([]byte("x"), plain[1:]...)
	for name, blob := range map[string][]byte{
		"another":   another,
		"too short": plain[:len(plain)-1],
		"too long":  append(bytes.Clone(plain), '0'),
		"gzip, cut": gzipped(t, plain)[:1000],
	} {
		if out, err := written(t, layerPart(t, blob, plain)); err == nil || strings.HasSuffix(out, "behind") {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	gone := layerPart(t, plain, plain)
	assert.NilError(t, os.Remove(gone.BlobPath))
	if out, err := written(t, gone); err == nil || out != "before" {
		t.Errorf("gone: %q, %v", out, err)
	}
}
