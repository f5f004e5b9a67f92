package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"weak"

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

const (
	// maxStepKeys bounds the keys that all imported caches together give for a step at a time, and maxStepLinks their links
	// to those of the step that it stands on. BuildKit goes through the links in the one goroutine that schedules every
	// build, for each cache anew, and records each in a transaction.
	maxStepKeys  = 128
	maxStepLinks = 1024
	// maxImportLinks bounds those that are gone through for one import, in all.
	maxImportLinks = 1 << 16
)

// behind finds and describes caches behind their builds. BuildKit waits for a cache that is not there yet in the one
// goroutine that schedules every build, if a build that imports it shares a step with one that is under way.
func behind(keys *stepKeys, resolve remotecache.ResolveCacheImporterFunc) remotecache.ResolveCacheImporterFunc {
	return func(_ context.Context, group session.Group, attributes map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		return &importerBehind{keys, resolve, group, attributes}, ocispecs.Descriptor{}, nil
	}
}

// stepKeys divides the keys of a step among the imported caches. BuildKit asks for one step's at a time, all caches at once.
type stepKeys struct {
	mu sync.Mutex
	// The first key of those that the caches are asked with, and how many they may still give for these.
	asked weak.Pointer[solver.CacheKeyWithSelector]
	left  int
}

// share returns as many of a cache's keys as there is room for.
func (s *stepKeys) share(deps []solver.CacheKeyWithSelector, keys []*solver.CacheKey) []*solver.CacheKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	if asked := weak.Make(&deps[0]); s.asked != asked {
		s.asked, s.left = asked, min(maxStepKeys, maxStepLinks/len(deps))
	}
	shared := keys[:min(len(keys), s.left)]
	s.left -= len(shared)
	return shared
}

type importerBehind struct {
	keys       *stepKeys
	resolve    remotecache.ResolveCacheImporterFunc
	group      session.Group
	attributes map[string]string
}

func (i *importerBehind) Resolve(ctx context.Context, _ ocispecs.Descriptor, id string, w bkworker.Worker) (solver.CacheManager, error) {
	made := newCacheBehind(id, i.keys)
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
	keys  *stepKeys
	// How many links may still be gone through: without any it gives nothing.
	links atomic.Int64
}

func newCacheBehind(id string, keys *stepKeys) *cacheBehind {
	made := &cacheBehind{id: id, described: make(chan struct{}), keys: keys}
	made.links.Store(maxImportLinks)
	return made
}

func (c *cacheBehind) ID() string { return c.id }

// Query waits for the description if it asks for no digest, as [worker.Worker] does before a step.
func (c *cacheBehind) Query(deps []solver.CacheKeyWithSelector, input solver.Index, of digest.Digest, output solver.Index) ([]*solver.CacheKey, error) {
	if of == "" {
		<-c.described
	}
	found := c.found()
	if found == nil {
		return nil, nil
	}
	if len(deps) == 0 {
		return found.Query(deps, input, of, output)
	}
	links := len(deps)
	for _, dep := range deps {
		for _, each := range dep.CacheKey.Deps() {
			links += len(each)
		}
	}
	if c.links.Add(-int64(links)) < 0 {
		return nil, nil
	}
	var keys []*solver.CacheKey
	known := map[string]struct{}{}
	for at := range deps { // Asked with several, BuildKit's would go through each of them for each key.
		given, err := found.Query(deps[at:at+1], input, of, output)
		if err != nil {
			return nil, err
		}
		for _, key := range given {
			if _, ok := known[key.ID]; !ok {
				known[key.ID] = struct{}{}
				keys = append(keys, key)
			}
		}
	}
	if c.links.Add(-int64(len(deps)*len(keys))) < 0 {
		return nil, nil
	}
	return c.keys.share(deps, keys), nil
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
