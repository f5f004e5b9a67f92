package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	bkworker "github.com/moby/buildkit/worker"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless/builder/worker"
)

// importLimit bounds the time in which a cache is found and described.
const importLimit = 30 * time.Second

const (
	// layerPatience bounds the time that builds wait for an import's layers. It is that of web servers and repositories.
	layerPatience = 5 * time.Minute
	// layerRate, in bytes per second, is how fast layers have to come for the patience to last. It is that of large bodies
	// of requests.
	layerRate = 1 << 20
)

// boundedImport limits the size of a cache's description, the time until it is read, and that in which its layers come.
// BuildKit does not cancel an import with its build, whose memory it is part of until it ends, and other builds that share
// a step with that build wait for it.
func boundedImport(find cacheSource, m *memory, limit, patience time.Duration) remotecache.ResolveCacheImporterFunc {
	return func(ctx context.Context, group session.Group, attributes map[string]string) (_ remotecache.Importer, _ ocispecs.Descriptor, err error) {
		defer worker.Recovered(&err)
		end := time.Now().Add(limit)
		tooLong := fmt.Errorf("the build cache was not described within %s", limit)
		ctx, cancel := context.WithDeadlineCause(ctx, end, tooLong)
		defer cancel()
		provider, desc, err := find(ctx, group, attributes)
		if err != nil {
			return nil, ocispecs.Descriptor{}, err
		}
		described := &described{}
		importer := remotecache.NewImporter(&boundedProvider{provider, described})
		return &boundedImporter{importer, described, m, end, tooLong, patience}, desc, nil
	}
}

type boundedImporter struct {
	remotecache.Importer
	described *described
	memory    *memory
	end       time.Time
	tooLong   error
	patience  time.Duration
}

// Resolve returns in time, though BuildKit does not look at its context while it puts the cache together.
func (i *boundedImporter) Resolve(ctx context.Context, desc ocispecs.Descriptor, id string, w bkworker.Worker) (solver.CacheManager, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, i.end, i.tooLong)
	defer cancel()
	return untilDone(ctx, func() (solver.CacheManager, error) {
		return withinMemory(ctx, i.memory, func(ctx context.Context) (solver.CacheManager, error) {
			defer i.described.isWhole.Store(true)
			return i.Importer.Resolve(ctx, desc, id, newImpatientWorker(w, i.patience))
		})
	})
}

// impatientWorker loads an import's layers, and leaves the import for good once it has waited too long for them: builds
// run the steps instead.
type impatientWorker struct {
	bkworker.Worker
	patience time.Duration
	// Ends when the import is left.
	ctx   context.Context
	leave context.CancelCauseFunc

	mu sync.Mutex
	// The part of the patience that is left. Waiting takes from it, and bytes that have come give it back.
	left time.Duration
	// How many wait now, since when that has been taken from the patience, and what leaves at its end.
	waiting int
	since   time.Time
	end     *time.Timer
}

func newImpatientWorker(w bkworker.Worker, patience time.Duration) *impatientWorker {
	ctx, leave := context.WithCancelCause(context.Background())
	return &impatientWorker{Worker: w, patience: patience, ctx: ctx, leave: leave, left: patience}
}

func (w *impatientWorker) FromRemote(ctx context.Context, remote *solver.Remote) (cache.ImmutableRef, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.ctx, func() { cancel(context.Cause(w.ctx)) })()
	made, err := w.Worker.FromRemote(ctx, &solver.Remote{
		Descriptors: remote.Descriptors, Provider: &impatientProvider{remote.Provider, w},
	})
	if err != nil && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	return made, err
}

// wait does what waits for the import, and returns a number of bytes that have come. Time in which several wait counts
// once.
func (w *impatientWorker) wait(read func() (int, error)) (int, error) {
	w.account(1, 0)
	n, err := read()
	w.account(-1, n)
	return n, err
}

// account updates the patience when somebody begins or ends to wait.
func (w *impatientWorker) account(waiting, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.waiting > 0 {
		w.end.Stop()
		w.left = min(w.left-now.Sub(w.since)+time.Duration(bytes)*time.Second/layerRate, w.patience)
	}
	w.waiting += waiting
	w.since = now
	if w.waiting > 0 {
		w.end = time.AfterFunc(w.left, func() {
			w.leave(fmt.Errorf("the layers of the build cache come too slowly: less than %d bytes a second for %s", layerRate, w.patience))
		})
	}
}

type impatientProvider struct {
	content.InfoReaderProvider
	worker *impatientWorker
}

func (p *impatientProvider) ReaderAt(ctx context.Context, desc ocispecs.Descriptor) (reader content.ReaderAt, err error) {
	_, err = p.worker.wait(func() (int, error) {
		reader, err = p.InfoReaderProvider.ReaderAt(ctx, desc)
		return 0, err
	})
	if err != nil {
		return nil, err
	}
	return &impatientReader{reader, p.worker}, nil
}

type impatientReader struct {
	content.ReaderAt
	worker *impatientWorker
}

func (r *impatientReader) ReadAt(into []byte, at int64) (int, error) {
	return r.worker.wait(func() (int, error) { return r.ReaderAt.ReadAt(into, at) })
}

// recovering converts the panics of a cache's export to errors: of what a client answers, BuildKit believes the lengths.
func recovering(resolve remotecache.ResolveCacheExporterFunc) remotecache.ResolveCacheExporterFunc {
	return func(ctx context.Context, group session.Group, attributes map[string]string) (remotecache.Exporter, error) {
		made, err := resolve(ctx, group, attributes)
		if err != nil {
			return nil, err
		}
		return recoveringExporter{made}, nil
	}
}

type recoveringExporter struct{ remotecache.Exporter }

func (e recoveringExporter) Finalize(ctx context.Context) (told map[string]string, err error) {
	defer worker.Recovered(&err)
	return e.Exporter.Finalize(ctx)
}
