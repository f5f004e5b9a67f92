package server

import (
	"context"
	"time"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/progress"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// behind finds and describes caches behind their builds. BuildKit waits for a cache that is not there yet in the one
// goroutine that schedules every build, if a build that imports it shares a step with one that is under way.
func behind(resolve remotecache.ResolveCacheImporterFunc) remotecache.ResolveCacheImporterFunc {
	return func(_ context.Context, group session.Group, attributes map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		return &importerBehind{resolve, group, attributes}, ocispecs.Descriptor{}, nil
	}
}

type importerBehind struct {
	resolve    remotecache.ResolveCacheImporterFunc
	group      session.Group
	attributes map[string]string
}

func (i *importerBehind) Resolve(ctx context.Context, _ ocispecs.Descriptor, id string, w bkworker.Worker) (solver.CacheManager, error) {
	made := &cacheBehind{id: id, described: make(chan struct{})}
	go func() {
		defer close(made.described)
		started := time.Now()
		importer, desc, err := i.resolve(ctx, i.group, i.attributes)
		if err == nil {
			made.cache, err = importer.Resolve(ctx, desc, id, w)
		}
		if err != nil {
			tellImport(ctx, id, started, err)
		}
	}()
	return made, nil
}

// tellImport tells the build's client of a failure, in BuildKit's own vertex of the import, which has ended.
func tellImport(ctx context.Context, id string, started time.Time, failure error) {
	name, ended := "importing cache manifest from "+id, time.Now()
	writer, _, _ := progress.NewFromContext(ctx)
	defer writer.Close()
	_ = writer.Write(identity.NewID(), client.Vertex{
		Digest: digest.FromString(name), Name: name, Started: &started, Completed: &ended, Error: failure.Error(),
	})
}

// cacheBehind is an imported cache that has nothing until it is described.
type cacheBehind struct {
	id        string
	described chan struct{}
	// Nil if it could not be described; read after that.
	cache solver.CacheManager
}

func (c *cacheBehind) ID() string { return c.id }

// Query waits for the description if it asks for no digest, as [worker.Worker] does before a step.
func (c *cacheBehind) Query(deps []solver.CacheKeyWithSelector, input solver.Index, of digest.Digest, output solver.Index) ([]*solver.CacheKey, error) {
	if of == "" {
		<-c.described
	}
	if found := c.found(); found != nil {
		return found.Query(deps, input, of, output)
	}
	return nil, nil
}

func (c *cacheBehind) Records(ctx context.Context, key *solver.CacheKey) ([]*solver.CacheRecord, error) {
	if found := c.found(); found != nil {
		return found.Records(ctx, key)
	}
	return nil, nil
}

func (c *cacheBehind) Load(ctx context.Context, record *solver.CacheRecord) (solver.Result, error) {
	if found := c.found(); found != nil {
		return found.Load(ctx, record)
	}
	return nil, solver.ErrNotFound
}

// Save saves nothing: an imported cache is only read.
func (c *cacheBehind) Save(*solver.CacheKey, solver.Result, time.Time) (*solver.ExportableCacheKey, error) {
	return nil, solver.ErrNotFound
}

func (c *cacheBehind) ReleaseUnreferenced(context.Context) error { return nil }

// found returns the cache, or nil if there is none yet.
func (c *cacheBehind) found() solver.CacheManager {
	select {
	case <-c.described:
		return c.cache
	default:
		return nil
	}
}
