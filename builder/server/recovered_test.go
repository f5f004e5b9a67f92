package server

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/cache/remotecache"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/llbbuild"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// TestAPanicOfAnOperationIsItsBuildsErrorAlone solves what BuildKit panics for: a definition without operations, and
// one in a state without files.
func TestAPanicOfAnOperationIsItsBuildsErrorAlone(t *testing.T) {
	s, _ := running(t)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, pb.LLBDefaultDefinitionFile), nil, 0o600))
	defer s.worker.Serve("files", dir)()
	file := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil))
	for name, from := range map[string]llb.State{
		"an empty definition": llb.Local("context", llb.SessionID("files")), "no files": llb.Diff(file, file),
	} {
		err := solvedState(context.Background(), s, "a", from.With(llbbuild.Build()))
		assert.Check(t, is.ErrorContains(err, "the builder failed"), name)
	}
	assert.Check(t, solved(s, "a", "a"))
}

func TestAPanicOfACallIsItsErrorAlone(t *testing.T) {
	_, err := recoverCall(t.Context(), nil, nil, func(context.Context, any) (any, error) { panic("it fails") })
	streamErr := recoverStream(nil, nil, nil, func(any, grpc.ServerStream) error { panic("it fails") })
	for _, each := range []error{err, streamErr} {
		assert.Check(t, is.ErrorContains(each, "the builder failed: it fails"))
	}
}

// lyingStore is a client's store that has written more of a cache's description than it was sent.
type lyingStore struct{}

type lyingWriter struct {
	content.Writer
	lies bool
}

func (lyingStore) Info(context.Context, digest.Digest) (content.Info, error) {
	return content.Info{}, nil
}

func (lyingStore) ReaderAt(context.Context, ocispecs.Descriptor) (content.ReaderAt, error) {
	return &documentReader{bytes.NewReader([]byte("layer")), 5}, nil
}

func (lyingStore) Writer(_ context.Context, options ...content.WriterOpt) (content.Writer, error) {
	var wanted content.WriterOpts
	for _, each := range options {
		if err := each(&wanted); err != nil {
			return nil, err
		}
	}
	return lyingWriter{lies: wanted.Desc.MediaType == cacheimporttypes.CacheConfigMediaTypeV0}, nil
}

func (w lyingWriter) Write(data []byte) (int, error) {
	if w.lies {
		return len(data) + 1, nil
	}
	return len(data), nil
}

func (lyingWriter) Status() (content.Status, error)                                    { return content.Status{}, nil }
func (lyingWriter) Commit(context.Context, int64, digest.Digest, ...content.Opt) error { return nil }
func (lyingWriter) Close() error                                                       { return nil }

func TestAPanicOfACachesExportIsItsBuildsErrorAlone(t *testing.T) {
	resolve := recovering(func(context.Context, session.Group, map[string]string) (remotecache.Exporter, error) {
		return remotecache.NewExporter(lyingStore{}, "", true, true, compression.New(compression.Default)), nil
	})
	made, err := resolve(t.Context(), nil, nil)
	assert.NilError(t, err)
	layer := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 5}
	result := solver.CacheExportResult{Result: &solver.Remote{Descriptors: []ocispecs.Descriptor{layer}, Provider: lyingStore{}}}
	_, _, err = made.Add(digest.FromString("step"), nil, []solver.CacheExportResult{result})
	assert.NilError(t, err)
	_, err = made.Finalize(t.Context())
	assert.Check(t, is.ErrorContains(err, "invalid Write count"))
}
