package server

import (
	"context"
	"errors"
	"runtime"
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
//
// walked: links gone through already to find these; if they are refused, it is charged instead, as a debt
func (i *imports) count(links, walked int) (isWithin, isFirst bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.links >= links {
		i.links -= links
		return true, false
	}
	now := time.Now()
	if i.shared.AllowN(now, links) {
		return true, false
	}
	i.shared.ReserveN(now, min(walked, i.shared.Burst()))
	isFirst = !i.isTold
	i.links, i.isTold = 0, true
	return false, isFirst
}

type importerBehind struct {
	all        *sessionImports
	resolve    remotecache.ResolveCacheImporterFunc
	group      session.Group
	attributes map[string]string
}

func (i *importerBehind) Resolve(ctx context.Context, _ ocispecs.Descriptor, id string, w bkworker.Worker) (solver.CacheManager, error) {
	started := time.Now()
	made := newCacheBehind(id, i.all.get(sessionOf(i.group)), func(failure error) { tellImport(ctx, id, started, failure) })
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

func sessionOf(group session.Group) string {
	if group == nil {
		return ""
	}
	return group.SessionIterator().NextSession()
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
	// The IDs of the keys that it has given.
	given map[string]struct{}
	// How many links other keys that it was asked with have that were not counted yet. BuildKit goes through a key's own links
	// once, and remembers the ID that it finds.
	uncounted map[weak.Pointer[solver.CacheKey]]int
}

func newCacheBehind(id string, all *imports, tell func(error)) *cacheBehind {
	return &cacheBehind{
		id: id, described: make(chan struct{}), imports: all, tell: tell,
		given: map[string]struct{}{}, uncounted: map[weak.Pointer[solver.CacheKey]]int{},
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
	asked, links := c.ownOrAll(deps)
	if !c.count(len(asked)+links, 0) {
		return nil, nil
	}
	if links > 0 {
		c.setCounted(asked)
	}
	walked := 0
	var keys []*solver.CacheKey
	known := map[string]struct{}{}
	for at := range asked { // Asked with several, BuildKit's would go through each of them for each key.
		given, err := found.Query(asked[at:at+1], input, of, output)
		if err != nil {
			return nil, err
		}
		walked += len(given)
		for _, key := range given {
			if _, ok := known[key.ID]; !ok {
				known[key.ID] = struct{}{}
				keys = append(keys, key)
			}
		}
	}
	if !c.count(len(deps)*len(keys), walked) {
		return nil, nil
	}
	return c.remember(c.imports.share(deps, keys)), nil
}

// ownOrAll returns the keys that this cache has given, which are of the same step as the others, or without these all keys,
// with how many links BuildKit still goes through for their IDs.
func (c *cacheBehind) ownOrAll(keys []solver.CacheKeyWithSelector) (own []solver.CacheKeyWithSelector, links int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if _, ok := c.given[key.CacheKey.ID]; ok {
			own = append(own, key)
		}
	}
	if len(own) > 0 {
		return own, 0
	}
	for _, key := range keys {
		pointer := weak.Make(key.CacheKey.CacheKey)
		own, isKnown := c.uncounted[pointer]
		if !isKnown {
			for _, each := range key.CacheKey.Deps() {
				own += len(each)
			}
			c.uncounted[pointer] = own
		}
		links += own
	}
	return keys, links
}

func (c *cacheBehind) setCounted(keys []solver.CacheKeyWithSelector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		c.uncounted[weak.Make(key.CacheKey.CacheKey)] = 0
	}
}

func (c *cacheBehind) remember(keys []*solver.CacheKey) []*solver.CacheKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		c.given[key.ID] = struct{}{}
	}
	return keys
}

// count is that of the imports. It tells the client the first time that links may not be gone through.
func (c *cacheBehind) count(links, walked int) bool {
	isWithin, isFirst := c.imports.count(links, walked)
	if isFirst {
		go c.tell(errors.New("steps are not found in this session's imported caches for now: builds have too many links of keys to go through"))
	}
	return isWithin
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
