package worker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	ctdcontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	bkcompression "github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless/builder/backend"
)

// Annotations of a layer in a build cache.
const (
	annotationCreated     = "buildkit/createdat"
	annotationDescription = "buildkit/description"
)

// blobs are layers in the compressed form of exported images and caches, in files that running builds share. A file is
// removed once all builds that requested it have ended.
type blobs struct {
	mu       sync.Mutex
	made     map[blobKey]*blob
	byDigest map[digest.Digest]string
}

// build is a running build, in the contexts of its calls.
type build struct {
	requested map[blobKey]*blob
	hasEnded  bool
}

type buildOfContext struct{}

// runningBuild returns a context's build, nil if there is none or it has ended; the caller has locked the blobs.
func runningBuild(ctx context.Context) *build {
	if by, ok := ctx.Value(buildOfContext{}).(*build); ok && !by.hasEnded {
		return by
	}
	return nil
}

type blobKey struct {
	diffID      digest.Digest
	compression string
	level       int
}

func keyOf(diffID digest.Digest, config bkcompression.Config) blobKey {
	key := blobKey{diffID: diffID, compression: config.Type.String()}
	if config.Level != nil {
		key.level = *config.Level
	}
	return key
}

// blob is created by its first request.
type blob struct {
	mu   sync.Mutex
	desc *ocispecs.Descriptor
	// The number of running builds that requested it.
	builds int
}

var _ ctdcontent.InfoReaderProvider = (*blobs)(nil)

// begin locks, and prepares the maps for the first layer.
func (b *blobs) begin() {
	b.mu.Lock()
	if b.made == nil {
		b.made, b.byDigest = map[blobKey]*blob{}, map[digest.Digest]string{}
	}
}

// has reports whether all these layers have been created and the context's build may request them.
func (b *blobs) has(ctx context.Context, diffIDs []digest.Digest, config bkcompression.Config) bool {
	b.begin()
	defer b.mu.Unlock()
	return runningBuild(ctx) != nil &&
		!slices.ContainsFunc(diffIDs, func(diffID digest.Digest) bool { return b.made[keyOf(diffID, config)] == nil })
}

// request returns a layer, which may have to be created yet, and keeps it until the context's build ends.
func (b *blobs) request(ctx context.Context, key blobKey) (*blob, error) {
	b.begin()
	defer b.mu.Unlock()
	by := runningBuild(ctx)
	if by == nil {
		return nil, errors.New("a layer is exported only by a running build")
	}
	requested, ok := by.requested[key]
	if ok {
		return requested, nil
	}
	if requested = b.made[key]; requested == nil {
		requested = &blob{}
		b.made[key] = requested
	}
	requested.builds++
	by.requested[key] = requested
	return requested, nil
}

// end returns the files that only this build had requested; the caller removes them.
func (b *blobs) end(by *build) (files []string) {
	b.begin()
	defer b.mu.Unlock()
	by.hasEnded = true
	for key, each := range by.requested {
		if each.builds--; each.builds == 0 {
			delete(b.made, key)
		}
	}
	wanted := map[digest.Digest]bool{}
	for _, each := range b.made {
		if each.desc != nil {
			wanted[each.desc.Digest] = true
		}
	}
	for dgst, file := range b.byDigest {
		if !wanted[dgst] {
			delete(b.byDigest, dgst)
			files = append(files, file)
		}
	}
	return files
}

// BeginBuild returns the context of a build, and a function for its end, which removes exported layers that only this
// build had requested.
func (w *Worker) BeginBuild(ctx context.Context) (_ context.Context, end func() error) {
	by := &build{requested: map[blobKey]*blob{}}
	return context.WithValue(ctx, buildOfContext{}, by), func() (err error) {
		for _, file := range w.blobs.end(by) {
			err = errors.Join(err, os.Remove(file))
		}
		return err
	}
}

// Info describes a created layer.
func (b *blobs) Info(_ context.Context, dgst digest.Digest) (ctdcontent.Info, error) {
	file, err := b.find(dgst)
	if err != nil {
		return ctdcontent.Info{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return ctdcontent.Info{}, err
	}
	return ctdcontent.Info{Digest: dgst, Size: info.Size()}, nil
}

// ReaderAt opens a created layer.
func (b *blobs) ReaderAt(_ context.Context, desc ocispecs.Descriptor) (ctdcontent.ReaderAt, error) {
	path, err := b.find(desc.Digest)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &fileReaderAt{file, info.Size()}, nil
}

type fileReaderAt struct {
	*os.File
	size int64
}

func (f *fileReaderAt) Size() int64 { return f.size }

func (b *blobs) find(dgst digest.Digest) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if file, ok := b.byDigest[dgst]; ok {
		return file, nil
	}
	return "", fmt.Errorf("layer %s: %w", dgst, errdefs.ErrNotFound)
}

// blob returns a layer of the backend, compressed.
func (w *Worker) blob(ctx context.Context, diffID digest.Digest, config bkcompression.Config) (ocispecs.Descriptor, error) {
	b := &w.blobs
	requested, err := b.request(ctx, keyOf(diffID, config))
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	requested.mu.Lock()
	defer requested.mu.Unlock()
	if requested.desc != nil {
		return *requested.desc, nil
	}
	desc, file, err := w.makeBlob(ctx, diffID, config)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	requested.desc = &desc
	// Nobody would remove the file of a build that has ended meanwhile.
	if _, isKnown := b.byDigest[desc.Digest]; isKnown || requested.builds == 0 {
		return desc, os.Remove(file)
	}
	b.byDigest[desc.Digest] = file
	return desc, nil
}

func (w *Worker) makeBlob(ctx context.Context, diffID digest.Digest, config bkcompression.Config) (_ ocispecs.Descriptor, name string, err error) {
	file, err := os.CreateTemp(w.scratch, "blob-")
	if err != nil {
		return ocispecs.Descriptor{}, "", err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	digester, size := digest.Canonical.Digester(), &counter{to: io.Discard}
	compress, finalize := config.Type.Compress(ctx, config)
	if finalize != nil {
		// Such a format, as eStargz, adds data of its own to the layer.
		return ocispecs.Descriptor{}, "", fmt.Errorf("sockerless: compression=%s is not implemented by the builder", config.Type)
	}
	out, err := compress(io.MultiWriter(file, digester.Hash(), size), config.Type.MediaType())
	if err != nil {
		return ocispecs.Descriptor{}, "", err
	}
	if err := w.readLayer(ctx, diffID, out); err != nil {
		return ocispecs.Descriptor{}, "", errors.Join(err, out.Close())
	}
	if err := out.Close(); err != nil {
		return ocispecs.Descriptor{}, "", err
	}
	return ocispecs.Descriptor{MediaType: config.Type.MediaType(), Digest: digester.Digest(), Size: size.bytes}, file.Name(), nil
}

// readLayer writes a layer of the backend uncompressed, from the archive of an image with only this layer.
func (w *Worker) readLayer(ctx context.Context, diffID digest.Digest, to io.Writer) error {
	alone, err := w.states.install(ctx, []digest.Digest{diffID}, nil, origin{description: "exported layer", kind: client.UsageRecordTypeInternal})
	if err != nil {
		return err
	}
	defer func() {
		w.states.letGo(alone.ID)
		// A state that fails to be removed now is pruned later.
		Warn("remove an exported layer's state", w.states.removeInternal(context.WithoutCancel(ctx), alone.ID))
	}()
	// The layer's bytes are the same in each attempt, so those already written are skipped.
	written := &counter{to: to}
	return backend.Plain(w.backend.SaveImage(ctx, alone.ID, func(archive *tar.Reader) error {
		isThere := false
		err := eachEntry(archive, func(header *tar.Header) error {
			if header.Name != "blobs/sha256/"+diffID.Encoded() {
				return nil
			}
			isThere = true
			if _, err := io.CopyN(io.Discard, archive, written.bytes); err != nil {
				return err
			}
			_, err := io.Copy(written, archive)
			return err
		})
		if err == nil && !isThere {
			return fmt.Errorf("the backend saved an image without its layer %s", diffID)
		}
		return err
	}))
}

// ofInlineCache marks a context in which layers are only described, because the image that has them provides them.
type ofInlineCache struct{}

// GetRemotes returns the layers of a state for an exported image or cache; none if they do not exist yet and must not
// be created. A build's own files are in no cache.
func (c *content) GetRemotes(ctx context.Context, createIfNeeded bool, config cacheconfig.RefConfig, _ bool, _ session.Group) ([]*solver.Remote, error) {
	if len(c.diffIDs) == 0 || (!createIfNeeded && !c.worker.blobs.has(ctx, c.diffIDs, config.Compression)) {
		return nil, nil
	}
	times, err := c.worker.states.madeAt(c.diffIDs)
	if err != nil {
		return nil, err
	}
	remote := &solver.Remote{Provider: &c.worker.blobs}
	isInline := ctx.Value(ofInlineCache{}) != nil
	if isInline {
		remote.Provider = untransferred{}
	}
	for at, diffID := range c.diffIDs {
		desc := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: diffID}
		if !isInline {
			if desc, err = c.worker.blob(ctx, diffID, config.Compression); err != nil {
				return nil, backend.Plain(err)
			}
		}
		desc.Annotations = map[string]string{
			labels.LabelUncompressed: diffID.String(), annotationCreated: times[at].Format(time.RFC3339Nano),
		}
		remote.Descriptors = append(remote.Descriptors, desc)
	}
	return []*solver.Remote{remote}, nil
}

// LayerChain returns a state for each layer, for an image's history.
func (c *content) LayerChain() cache.RefList {
	times, err := c.worker.states.madeAt(c.diffIDs)
	if err != nil {
		return nil
	}
	chain := make(cache.RefList, len(times))
	for at := range times {
		layer := &layerState{ref: &ref{content: &content{worker: c.worker, diffIDs: c.diffIDs[:at+1]}}, made: times[at]}
		if known, err := c.worker.states.ofLayers(layer.diffIDs); err == nil {
			layer.description = known.Description
		}
		chain[at] = layer
	}
	return chain
}

// layerState describes a layer of a state without holding anything.
type layerState struct {
	*ref
	made        time.Time
	description string
}

func (s *layerState) Release(context.Context) error { return nil }
func (s *layerState) GetCreatedAt() time.Time       { return s.made }
func (s *layerState) GetDescription() string        { return s.description }

// untransferred provides layers that are never read.
type untransferred struct{}

func (untransferred) Info(_ context.Context, dgst digest.Digest) (ctdcontent.Info, error) {
	return ctdcontent.Info{Digest: dgst}, nil
}

func (untransferred) ReaderAt(context.Context, ocispecs.Descriptor) (ctdcontent.ReaderAt, error) {
	return nil, errdefs.ErrNotImplemented
}

// FromRemote makes a state of an imported cache's layers, and fetches those that the backend lacks.
func (w *Worker) FromRemote(ctx context.Context, remote *solver.Remote) (_ cache.ImmutableRef, err error) {
	defer Recovered(&err)
	diffIDs := make([]digest.Digest, len(remote.Descriptors))
	for at, each := range remote.Descriptors {
		if diffIDs[at], err = digest.Parse(each.Annotations[labels.LabelUncompressed]); err != nil {
			return nil, fmt.Errorf("layer %s of a build cache: %w", each.Digest, err)
		}
	}
	if made, err := w.states.install(ctx, diffIDs, nil, importedOrigin(remote.Descriptors)); err == nil {
		return w.stateRef(made), nil
	}
	var below *record
	defer func() {
		if err != nil && below != nil {
			w.states.letGo(below.ID)
		}
	}()
	for at := range diffIDs {
		from := importedOrigin(remote.Descriptors[:at+1])
		if below != nil {
			from.parent = below.ID
		}
		made, err := w.installFetched(ctx, diffIDs[:at+1], remote, from)
		if err != nil {
			return nil, err
		}
		if below != nil {
			w.states.letGo(below.ID)
		}
		below = &made
	}
	if below == nil {
		return nil, errors.New("a build cache's result has no layers")
	}
	return w.stateRef(*below), nil
}

// importedOrigin describes the state of these layers as in the cache.
func importedOrigin(descriptors []ocispecs.Descriptor) origin {
	from := origin{description: "imported from a build cache", kind: client.UsageRecordTypeRegular}
	if len(descriptors) == 0 {
		return from
	}
	annotations := descriptors[len(descriptors)-1].Annotations
	if told := annotations[annotationDescription]; told != "" {
		from.description = told
	}
	if made, err := time.Parse(time.RFC3339Nano, annotations[annotationCreated]); err == nil {
		from.made = made
	}
	return from
}

// installFetched installs a state, and fetches its top layer if the backend lacks it.
func (w *Worker) installFetched(ctx context.Context, diffIDs []digest.Digest, remote *solver.Remote, from origin) (record, error) {
	if made, err := w.states.install(ctx, diffIDs, nil, from); err == nil {
		return made, nil
	}
	desc := remote.Descriptors[len(diffIDs)-1]
	file, err := w.unnamedFile()
	if err != nil {
		return record{}, err
	}
	defer file.Close()
	digester := digest.Canonical.Digester()
	size, err := w.inflate(ctx, remote.Provider, desc, io.MultiWriter(file, digester.Hash()))
	if err != nil {
		return record{}, fmt.Errorf("fetch layer %s of a build cache: %w", desc.Digest, err)
	}
	wanted := diffIDs[len(diffIDs)-1]
	if digester.Digest() != wanted {
		return record{}, fmt.Errorf("layer %s of a build cache is %s unpacked, not %s", desc.Digest, digester.Digest(), wanted)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return record{}, err
	}
	return w.states.install(ctx, diffIDs, &backend.Layer{DiffID: wanted, Size: size, Content: file}, from)
}

// inflate decompresses a layer and returns its size, which may not exceed a context's.
func (w *Worker) inflate(ctx context.Context, provider ctdcontent.Provider, desc ocispecs.Descriptor, to io.Writer) (int64, error) {
	source, err := provider.ReaderAt(ctx, desc)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	unpacked, err := w.Decompress(ctx, ctdcontent.NewReader(source))
	if err != nil {
		return 0, err
	}
	defer unpacked.Close()
	return w.limits.Context.copy("the layer, unpacked,", to, unpacked)
}
