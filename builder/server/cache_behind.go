package server

import (
	"context"
	"fmt"
	"sync"
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
	// maxStepKeys bounds the keys that all imported caches together give in one query for a step; maxStepLinks bounds these
	// times the keys that the query names. Beyond that each cache still gives one key. BuildKit goes through the links in
	// the one goroutine that schedules every build, for each cache anew, and records each in a transaction.
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

// share returns as many of a cache's keys as there is room for, and one at least.
func (s *stepKeys) share(deps []solver.CacheKeyWithSelector, keys []*solver.CacheKey) []*solver.CacheKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	if asked := weak.Make(&deps[0]); s.asked != asked {
		s.asked, s.left = asked, min(maxStepKeys, maxStepLinks/len(deps))
	}
	shared := keys[:min(len(keys), max(s.left, 1))]
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
	started := time.Now()
	made := newCacheBehind(id, i.keys, func(failure error) { tellImport(ctx, id, started, failure) })
	go func() {
		defer close(made.described)
		importer, desc, err := i.resolve(ctx, i.group, i.attributes)
		if err == nil {
			made.cache, err = importer.Resolve(ctx, desc, id, w)
		}
		if err != nil {
			made.tell(err)
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
	// Tells the build's client of a failure.
	tell func(error)

	mu sync.Mutex
	// How many links may still be gone through; negative if it gives nothing any more.
	left int
	// Keys that it was asked with. BuildKit goes through a key's own links once, and remembers the ID that it finds.
	known map[weak.Pointer[solver.CacheKey]]struct{}
}

func newCacheBehind(id string, keys *stepKeys, tell func(error)) *cacheBehind {
	return &cacheBehind{
		id: id, described: make(chan struct{}), keys: keys, tell: tell, left: maxImportLinks, known: map[weak.Pointer[solver.CacheKey]]struct{}{},
	}
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
	if !c.count(len(deps) + c.linksOfNew(deps)) {
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
	if !c.count(len(deps) * len(keys)) {
		return nil, nil
	}
	return c.keys.share(deps, keys), nil
}

// linksOfNew returns how many links BuildKit goes through for the IDs of those keys that this cache is first asked with.
func (c *cacheBehind) linksOfNew(keys []solver.CacheKeyWithSelector) (links int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		pointer := weak.Make(key.CacheKey.CacheKey)
		if _, ok := c.known[pointer]; ok || c.left < 0 {
			continue
		}
		c.known[pointer] = struct{}{}
		for _, each := range key.CacheKey.Deps() {
			links += len(each)
		}
	}
	return links
}

// count reports whether so many links may still be gone through. Once they may not, it tells the client.
func (c *cacheBehind) count(links int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < links {
		if c.left >= 0 {
			go c.tell(fmt.Errorf("no further steps are looked for in this cache, as more than %d links of keys would be gone through", maxImportLinks))
		}
		c.left = -1
		return false
	}
	c.left -= links
	return true
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
