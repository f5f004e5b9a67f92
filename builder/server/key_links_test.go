package server

import (
	"context"
	"fmt"
	"testing"

	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	"gotest.tools/v3/assert"
)

// plainStep is a step whose inputs but the first have this content.
type plainStep struct {
	name, operation, content string
	inputs                   []solver.Edge
	// Counts how often content is read.
	reads *int
}

func (s *plainStep) Digest() digest.Digest         { return digest.FromString(s.name) }
func (s *plainStep) Sys() any                      { return s }
func (s *plainStep) Options() solver.VertexOptions { return solver.VertexOptions{} }
func (s *plainStep) Inputs() []solver.Edge         { return s.inputs }
func (s *plainStep) Name() string                  { return s.name }

func (s *plainStep) CacheMap(context.Context, solver.JobContext, int) (*solver.CacheMap, bool, error) {
	made := &solver.CacheMap{Digest: digest.FromString(s.operation)}
	for at := range s.inputs {
		made.Deps = append(made.Deps, struct {
			Selector          digest.Digest
			ComputeDigestFunc solver.ResultBasedCacheFunc
			PreprocessFunc    solver.PreprocessFunc
		}{})
		if at > 0 {
			made.Deps[at].Selector = "selected"
			made.Deps[at].ComputeDigestFunc = func(context.Context, solver.Result, session.Group) (digest.Digest, error) {
				*s.reads++
				return digest.FromString(s.content), nil
			}
		}
	}
	return made, true, nil
}

func (s *plainStep) Exec(context.Context, solver.JobContext, []solver.Result) ([]solver.Result, error) {
	return []solver.Result{plainResult(s.name)}, nil
}

func (s *plainStep) Acquire(context.Context) (solver.ReleaseFunc, error) { return func() {}, nil }

type plainResult string

func (r plainResult) ID() string                    { return string(r) }
func (r plainResult) Release(context.Context) error { return nil }
func (r plainResult) Sys() any                      { return nil }
func (r plainResult) Clone() solver.Result          { return r }

// countingLinks counts the links that are stored, and how often all keys are gone through.
type countingLinks struct {
	solver.CacheKeyStorage
	links, walks int
}

func (c *countingLinks) Walk(walk func(id string) error) error {
	c.walks++
	return c.CacheKeyStorage.Walk(walk)
}

func (c *countingLinks) AddLink(from string, link solver.CacheInfoLink, to string) error {
	c.links++
	return c.CacheKeyStorage.AddLink(from, link, to)
}

// buildsWith returns what builds steps with a cache of these links, one after the other, and gives their results.
func buildsWith(t *testing.T, stored solver.CacheKeyStorage) func(steps ...*plainStep) []string {
	return buildsWithLinks(t, newBoundedLinks(stored, rate.NewLimiter(linkRate, linkBurst)))
}

func buildsWithLinks(t *testing.T, links *boundedLinks) func(steps ...*plainStep) []string {
	t.Helper()
	cache := solver.NewCacheManager(t.Context(), "local", links, solver.NewInMemoryResultStorage())
	solve := solver.NewSolver(solver.SolverOpt{DefaultCache: cache, ResolveOpFunc: func(v solver.Vertex, _ solver.Builder) (solver.Op, error) {
		return v.Sys().(*plainStep), nil
	}})
	return func(steps ...*plainStep) (results []string) {
		t.Helper()
		job, err := solve.NewJob(identity.NewID())
		assert.NilError(t, err)
		defer func() { _ = job.Discard() }()
		for _, each := range steps {
			result, err := job.Build(t.Context(), solver.Edge{Vertex: each})
			assert.NilError(t, err)
			results = append(results, result.ID())
		}
		return results
	}
}

// copyOf is a copy of files with this content from one step onto another.
func copyOf(content, from, base string, reads *int) *plainStep {
	return &plainStep{name: fmt.Sprintf("%s from %s to %s", content, from, base), operation: "copy", content: content, reads: reads, inputs: []solver.Edge{
		{Vertex: &plainStep{name: base, operation: base}}, {Vertex: &plainStep{name: from, operation: from}},
	}}
}

func TestEqualCopiesDoNotStoreTheSquareOfTheirLinks(t *testing.T) {
	stored := &countingLinks{CacheKeyStorage: solver.NewInMemoryCacheStorage()}
	build := buildsWith(t, stored)
	const rounds, many = 3, 100
	copies := func(round int, anew string) (all []*plainStep) {
		for at := range many {
			all = append(all, copyOf("content", fmt.Sprint("from ", anew, round, " ", at), fmt.Sprint("base ", round, " ", at), new(int)))
		}
		return all
	}
	for round := range rounds {
		build(copies(round, "")...)
	}
	if limit := rounds * many * (maxLinks + 4); stored.links > limit {
		t.Errorf("%d links of %d copies, more than %d", stored.links, rounds*many, limit)
	}
	// All of them are found, by their content and by where it is from.
	for _, anew := range []string{"anew ", "anew ", ""} {
		for at, result := range build(copies(rounds-1, anew)...) {
			if want := copies(rounds-1, "")[at].name; result != want {
				t.Errorf("%s instead of %s", result, want)
			}
		}
	}
}

func TestCopiesThatAreNotOfMuchCopiedContentAreFoundWithoutReadingIt(t *testing.T) {
	stored := solver.NewInMemoryCacheStorage()
	build := buildsWith(t, stored)
	const many = 2 * maxLinks
	much, reads := make([]*plainStep, many), 0
	for at := range much {
		much[at] = copyOf("much", fmt.Sprint("from ", at), fmt.Sprint("base ", at), &reads)
	}
	build(much...)
	other := func(from string) *plainStep { return copyOf("other", from, "base 0", &reads) }
	results := build(much[0], other("from a"))
	expect := func(what string, step *plainStep, result string, most int) {
		t.Helper()
		reads = 0
		if got := build(step); got[0] != result || reads > most {
			t.Errorf("%s: %s instead of %s, read %d times", what, got[0], result, reads)
		}
	}
	expect("other content from elsewhere", other("from b"), results[1], 1)
	expect("the same again", other("from b"), results[1], 0)
	for _, each := range much[maxLinks/2:] {
		assert.NilError(t, stored.Release(each.name))
	}
	expect("content that was copied much, from elsewhere", copyOf("much", "from c", "base 0", &reads), results[0], 1)
	expect("the same again", copyOf("much", "from c", "base 0", &reads), results[0], 0)
}

// countingWalks counts the links that are gone through, and how often it is asked for some.
type countingWalks struct {
	*countingLinks
	links, asked int
}

func (c *countingWalks) WalkLinks(from string, link solver.CacheInfoLink, walk func(to string) error) error {
	c.asked++
	return c.CacheKeyStorage.WalkLinks(from, link, func(to string) error {
		c.links++
		return walk(to)
	})
}

func TestKeysWithManyLinksAreGoneThroughForAPartOfTheTime(t *testing.T) {
	const many, burst = 1000, 5000
	stored := &countingWalks{countingLinks: &countingLinks{CacheKeyStorage: solver.NewInMemoryCacheStorage()}}
	links := newBoundedLinks(stored, rate.NewLimiter(0, burst))
	operation, other := solver.CacheInfoLink{Digest: "copy"}, solver.CacheInfoLink{Digest: "make"}
	for at := range many {
		assert.NilError(t, links.AddLink("much", operation, fmt.Sprint(at)))
	}
	assert.NilError(t, links.AddLink("little", operation, "one"))
	walk := func(from string, link solver.CacheInfoLink) (found int) {
		assert.NilError(t, links.WalkLinks(from, link, func(string) error { found++; return nil }))
		return found
	}
	for range 100 {
		walk("much", operation)
		if found := walk("little", operation); found != 1 {
			t.Fatalf("%d links of a key with one", found)
		}
	}
	if stored.links > many+burst+100 {
		t.Errorf("%d links are gone through", stored.links)
	}
	added := stored.countingLinks.links
	walk("much", operation)
	for at := range many {
		assert.NilError(t, links.AddLink("much", operation, fmt.Sprint("alias ", at)))
	}
	if stored.countingLinks.links != added {
		t.Errorf("%d aliases of a key that was not gone through", stored.countingLinks.links-added)
	}
	if links.HasLink("much", operation, "needed") || links.AddLink("much", operation, "needed") != nil || !links.HasLink("much", operation, "needed") {
		t.Error("a link that a result needs is not added")
	}
	walk("little", other)
	if err := links.AddLink("much", operation, "later"); err != nil || !stored.HasLink("much", operation, "later") {
		t.Errorf("an alias is not added later: %v", err)
	}
}

func TestMoreKeysWithManyLinksThanAreKnownForgetOneOfThem(t *testing.T) {
	links := newBoundedLinks(solver.NewInMemoryCacheStorage(), rate.NewLimiter(linkRate, linkBurst))
	operation := solver.CacheInfoLink{Digest: "copy"}
	for at := range maxLinks + 1 {
		assert.NilError(t, links.AddLink("much", operation, fmt.Sprint(at)))
	}
	for at := range maxCrowded {
		links.sizes[keyLink{from: fmt.Sprint(at)}] = maxLinks + 1
	}
	assert.NilError(t, links.WalkLinks("much", operation, func(string) error { return nil }))
	if size := links.sizes[keyLink{from: "much", link: operation}]; size != maxLinks+1 || len(links.sizes) != maxCrowded {
		t.Errorf("%d keys are known, this one with %d links", len(links.sizes), size)
	}
}

func TestACopyOfMuchCopiedContentRunsWhereItsKeyIsNotGoneThrough(t *testing.T) {
	links := newBoundedLinks(solver.NewInMemoryCacheStorage(), rate.NewLimiter(linkRate, linkBurst))
	build := buildsWithLinks(t, links)
	much := make([]*plainStep, 2*maxLinks)
	for at := range much {
		much[at] = copyOf("much", fmt.Sprint("from ", at), fmt.Sprint("base ", at), new(int))
	}
	build(much...)
	again := func() *plainStep { return copyOf("much", "from elsewhere", "base 0", new(int)) }
	shared := links.shared
	links.shared = rate.NewLimiter(0, 1)
	links.shared.Allow()
	if results := build(again()); results[0] != again().name {
		t.Errorf("%s", results[0])
	}
	links.shared = shared
	if results := build(copyOf("much", "from somewhere", "base 0", new(int))); results[0] != much[0].name && results[0] != again().name {
		t.Errorf("%s", results[0])
	}
}

func TestTheCacheOpensHoweverManyKeysItHas(t *testing.T) {
	counting := &countingLinks{CacheKeyStorage: solver.NewInMemoryCacheStorage()}
	cache := solver.NewCacheManager(t.Context(), "local", newBoundedLinks(counting, rate.NewLimiter(linkRate, linkBurst)), solver.NewInMemoryResultStorage())
	assert.Check(t, counting.walks == 0, "it looks at all keys")
	assert.Check(t, cache.ReleaseUnreferenced(t.Context()))
	assert.Check(t, counting.walks == 1, "it looks at no key")
}
