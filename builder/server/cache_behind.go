package server

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
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
	"golang.org/x/time/rate"

	"github.com/sockerless/sockerless/builder/worker"
)

const (
	// maxStepKeys bounds the keys that a session's imported caches together give in one query for a step; maxStepLinks bounds these
	// times the keys that the query names. Beyond that each cache still gives one key. BuildKit goes through the links in
	// the one goroutine that schedules every build, for each cache anew, and records each in a transaction.
	maxStepKeys  = 128
	maxStepLinks = 1024
	// ordinaryLinks is how many are gone through for all imports of a client's session, before further ones count among what
	// all builds share.
	ordinaryLinks = 4096
)

// behind finds and describes caches behind their builds. BuildKit waits for a cache that is not there yet in the one
// goroutine that schedules every build, if a build that imports it shares a step with one that is under way.
func behind(all *sessionImports, resolve remotecache.ResolveCacheImporterFunc) remotecache.ResolveCacheImporterFunc {
	return func(_ context.Context, group session.Group, attributes map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		return &importerBehind{all, resolve, group, attributes}, ocispecs.Descriptor{}, nil
	}
}

// sessionImports are the imports of each session. Builds without a session share theirs.
type sessionImports struct {
	// Links that are gone through for all builds.
	shared *rate.Limiter

	mu sync.Mutex
	of map[string]weak.Pointer[imports]
}

func (s *sessionImports) get(session string) *imports {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.of[session].Value(); known != nil {
		return known
	}
	made := newImports(s.shared)
	if s.of == nil {
		s.of = map[string]weak.Pointer[imports]{}
	}
	s.of[session] = weak.Make(made)
	runtime.AddCleanup(made, func(session string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[session].Value() == nil {
			delete(s.of, session)
		}
	}, session)
	return made
}

// imports are the imported caches of one session.
type imports struct {
	mu sync.Mutex
	// The first key of those that the caches are asked with, and how many they may still give for these. BuildKit asks for
	// one step's at a time, all caches at once.
	asked weak.Pointer[solver.CacheKeyWithSelector]
	keys  int
	// How many links may still be gone through that do not count among what all builds share.
	links  int
	shared *rate.Limiter
	// A client knows that links were not gone through.
	isTold bool
}

func newImports(shared *rate.Limiter) *imports {
	return &imports{links: ordinaryLinks, shared: shared}
}

// share returns as many of a cache's keys as there is room for, and one at least.
func (i *imports) share(deps []solver.CacheKeyWithSelector, keys []*solver.CacheKey) []*solver.CacheKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	if asked := weak.Make(&deps[0]); i.asked != asked {
		i.asked, i.keys = asked, min(maxStepKeys, maxStepLinks/len(deps))
	}
	shared := keys[:min(len(keys), max(i.keys, 1))]
	i.keys -= len(shared)
	return shared
}

// count reports whether so many links may be gone through now, and whether this was the first time that they may not.
func (i *imports) count(links int) (isWithin, isFirst bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.links >= links {
		i.links -= links
		return true, false
	}
	if i.shared.AllowN(time.Now(), links) {
		return true, false
	}
	isFirst = !i.isTold
	i.links, i.isTold = 0, true
	return false, isFirst
}

// owe charges links that were gone through before they could be refused.
func (i *imports) owe(links int) {
	i.shared.ReserveN(time.Now(), min(links, i.shared.Burst()))
}

type importerBehind struct {
	all        *sessionImports
	resolve    remotecache.ResolveCacheImporterFunc
	group      session.Group
	attributes map[string]string
}

func (i *importerBehind) Resolve(ctx context.Context, _ ocispecs.Descriptor, id string, w bkworker.Worker) (solver.CacheManager, error) {
	started := time.Now()
	made := newCacheBehind(id, i.all.get(worker.SessionsOf(i.group)[0]), func(failure error) { tellImport(ctx, id, started, failure) })
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
	cache   solver.CacheManager
	imports *imports
	// Tells the build's client of a failure.
	tell func(error)

	mu sync.Mutex
	// The keys that it has given, by their IDs.
	given map[string]*solver.CacheKey
	// Its keys for others that it was asked with, or nil where it has none.
	known map[weak.Pointer[solver.CacheKey]]*solver.CacheKey
}

func newCacheBehind(id string, all *imports, tell func(error)) *cacheBehind {
	return &cacheBehind{
		id: id, described: make(chan struct{}), imports: all, tell: tell,
		given: map[string]*solver.CacheKey{}, known: map[weak.Pointer[solver.CacheKey]]*solver.CacheKey{},
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
	c.mu.Lock()
	defer c.mu.Unlock()
	keys, err := c.linked(found, c.ownOrAll(deps), input, of, output)
	if err == nil {
		err = c.count(len(deps) * len(keys))
	}
	if errors.Is(err, errTooManyLinks) {
		return nil, nil
	}
	shared := c.imports.share(deps, slices.Collect(maps.Values(keys)))
	for _, key := range shared {
		c.given[key.ID] = key
	}
	return shared, err
}

// linked returns the cache's keys for an operation on these keys, by their IDs.
func (c *cacheBehind) linked(found solver.CacheManager, deps []solver.CacheKeyWithSelector, input solver.Index, of digest.Digest, output solver.Index) (map[string]*solver.CacheKey, error) {
	keys := map[string]*solver.CacheKey{}
	for _, dep := range deps { // Asked with several, BuildKit's would go through each of them for each key.
		own, err := c.own(found, dep.CacheKey.CacheKey)
		if err != nil {
			return nil, err
		}
		if own == nil {
			continue
		}
		if err := c.count(1); err != nil {
			return nil, err
		}
		dep.CacheKey.CacheKey = own
		linked, err := found.Query([]solver.CacheKeyWithSelector{dep}, input, of, output)
		if err != nil {
			return nil, err
		}
		if more := len(linked) - 1; more > 0 {
			if err := c.count(more); err != nil {
				c.imports.owe(more)
				return nil, err
			}
		}
		for _, key := range linked {
			keys[key.ID] = key
		}
	}
	return keys, nil
}

// own returns the cache's own key for one, or nil if it has none. BuildKit's would look for it through all links of all keys
// beneath it at once.
func (c *cacheBehind) own(found solver.CacheManager, key *solver.CacheKey) (*solver.CacheKey, error) {
	if given, ok := c.given[key.ID]; ok {
		return given, nil
	}
	pointer := weak.Make(key)
	if known, ok := c.known[pointer]; ok {
		return known, nil
	}
	inputs := key.Deps()
	if len(inputs) == 0 {
		return key, nil
	}
	if err := c.count(1); err != nil {
		return nil, err
	}
	var same map[string]*solver.CacheKey
	for input, deps := range inputs {
		linked, err := c.linked(found, deps, solver.Index(input), key.Digest(), key.Output())
		if err != nil {
			return nil, err
		}
		if input == 0 {
			same = linked
		}
		maps.DeleteFunc(same, func(id string, _ *solver.CacheKey) bool { return linked[id] == nil })
		if len(same) == 0 {
			break
		}
	}
	var own *solver.CacheKey
	for _, own = range same {
		break
	}
	c.known[pointer] = own
	return own, nil
}

// ownOrAll returns the keys that this cache has given, which are of the same step as the others, or without these all keys.
func (c *cacheBehind) ownOrAll(keys []solver.CacheKeyWithSelector) (own []solver.CacheKeyWithSelector) {
	for _, key := range keys {
		if _, ok := c.given[key.CacheKey.ID]; ok {
			own = append(own, key)
		}
	}
	if len(own) > 0 {
		return own
	}
	return keys
}

var errTooManyLinks = errors.New("steps are not found in this session's imported caches for now: builds have too many links of keys to go through")

// count refuses links that may not be gone through now, and tells the client the first time.
func (c *cacheBehind) count(links int) error {
	isWithin, isFirst := c.imports.count(links)
	if isFirst {
		go c.tell(errTooManyLinks)
	}
	if !isWithin {
		return errTooManyLinks
	}
	return nil
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
