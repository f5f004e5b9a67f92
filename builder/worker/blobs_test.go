package worker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ctdcontent "github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestAnExportedLayerIsRemovedWithTheLastBuildThatRequestedIt(t *testing.T) {
	w := &Worker{scratch: t.TempDir()}
	config := compression.New(compression.Default)
	request := func(ctx context.Context, name string) error {
		key := keyOf(digest.FromString(name), config)
		made, err := w.blobs.request(ctx, key)
		if err != nil {
			return err
		}
		if made.desc == nil {
			write(t, w.scratch, name, "")
			made.desc = &ocispecs.Descriptor{Digest: key.diffID}
			w.blobs.byDigest[key.diffID] = filepath.Join(w.scratch, name)
		}
		_, err = w.blob(ctx, key.diffID, config)
		return err
	}
	ask := func(ctx context.Context, name string) {
		t.Helper()
		assert.Check(t, request(ctx, name))
	}
	left := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(w.scratch)
		if err != nil || len(entries) != len(want) || len(w.blobs.made) != len(want) || len(w.blobs.byDigest) != len(want) {
			t.Fatalf("left %v, %v instead of %v", entries, err, want)
		}
		for at, each := range entries {
			assert.Check(t, each.Name() == want[at], "left %v instead of %v", entries, want)
		}
	}
	end := func(build func() error) {
		t.Helper()
		assert.Check(t, build())
	}
	_, endIdle := w.BeginBuild(t.Context())
	first, endFirst := w.BeginBuild(t.Context())
	ask(first, "a")
	ask(first, "b")
	ask(first, "b")
	second, endSecond := w.BeginBuild(t.Context())
	ask(second, "b")
	end(endFirst)
	left("b")
	end(endSecond)
	left()
	for _, ctx := range []context.Context{first, t.Context()} {
		if err := request(ctx, "c"); err == nil || w.blobs.has(ctx, nil, config) {
			t.Error("a layer is exported without a running build")
		}
	}
	left()
	end(endIdle)
}

func TestALayerThatIsOnlyHalfMadeByItsCompressionIsRefused(t *testing.T) {
	w, _ := workerOf(t)
	ctx, _ := w.BeginBuild(t.Context())
	_, err := w.blob(ctx, digest.FromString("a"), compression.New(compression.EStargz))
	assert.Check(t, is.ErrorContains(err, "compression=estargz is not implemented"))
	if left, err := os.ReadDir(w.scratch); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// endless is a layer of a cache that never ends.
type endless struct{ read int64 }

func (e *endless) Info(context.Context, digest.Digest) (ctdcontent.Info, error) {
	return ctdcontent.Info{}, nil
}
func (e *endless) ReaderAt(context.Context, ocispecs.Descriptor) (ctdcontent.ReaderAt, error) {
	return e, nil
}
func (e *endless) Close() error { return nil }
func (e *endless) Size() int64  { return 1 << 40 }
func (e *endless) ReadAt(into []byte, _ int64) (int, error) {
	e.read += int64(len(into))
	if e.read > 1<<28 {
		return 0, errors.New("read on and on")
	}
	return len(into), nil
}

func TestAnImportedLayerIsNoLargerThanAContext(t *testing.T) {
	w := &Worker{limits: Limits{Context: ContextLimits{Bytes: 1000}}}
	_, err := w.inflate(context.Background(), &endless{}, ocispecs.Descriptor{}, io.Discard)
	assert.Check(t, is.ErrorContains(err, "is larger than 1000 bytes"))
}

func TestALayerWhoseSavingIsCutIsReadOnce(t *testing.T) {
	w, server := workerOf(t)
	content := strings.Repeat("layer", 2000)
	diffID := digest.FromString(content)
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, name := range []string{"blobs/sha256/" + diffID.Encoded(), "manifest.json"} {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := io.WriteString(archive, content)
		must(t, err)
	}
	must(t, archive.Close())
	for name, cutAt := range map[string]int{"in the layer": 4096, "after it": packed.Len() - 2048} {
		cuts := 0
		server.Archive = packed.Bytes()
		server.After = func(called string) {
			if called == "SaveImages" {
				if cuts++; cuts == 1 {
					panic(http.ErrAbortHandler)
				}
			}
		}
		server.FirstPiece = cutAt
		var read bytes.Buffer
		if err := w.readLayer(context.Background(), diffID, &read); err != nil || read.String() != content || cuts != 2 {
			t.Errorf("cut %s, %d bytes were read in %d attempts: %v", name, read.Len(), cuts, err)
		}
		assert.Check(t, is.Len(server.Images(), 0))
	}
}
