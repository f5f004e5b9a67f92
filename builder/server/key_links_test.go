package server

import (
	"context"
	"fmt"
	"testing"

	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
)

// plainStep is a step whose inputs but the first have the same content.
type plainStep struct {
	name, operation string
	inputs          []solver.Edge
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
				return digest.FromString("content"), nil
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

// countingLinks counts the links that are stored.
type countingLinks struct {
	solver.CacheKeyStorage
	links int
}

func (c *countingLinks) AddLink(from string, link solver.CacheInfoLink, to string) error {
	c.links++
	return c.CacheKeyStorage.AddLink(from, link, to)
}

func TestEqualCopiesDoNotStoreTheSquareOfTheirLinks(t *testing.T) {
	stored := &countingLinks{CacheKeyStorage: solver.NewInMemoryCacheStorage()}
	cache := solver.NewCacheManager(t.Context(), "local", newBoundedLinks(stored), solver.NewInMemoryResultStorage())
	solve := solver.NewSolver(solver.SolverOpt{DefaultCache: cache, ResolveOpFunc: func(v solver.Vertex, _ solver.Builder) (solver.Op, error) {
		return v.Sys().(*plainStep), nil
	}})
	const rounds, many = 3, 100
	copies := func(round int, anew string) *plainStep {
		all := &plainStep{name: fmt.Sprint("all ", anew, round), operation: fmt.Sprint("all ", anew, round)}
		for at := range many {
			base := &plainStep{name: fmt.Sprint("base ", round, at), operation: fmt.Sprint("base ", round, at)}
			from := &plainStep{name: fmt.Sprint("from ", anew, round, at), operation: fmt.Sprint("from ", anew, round, at)}
			made := &plainStep{name: fmt.Sprint("copy ", anew, round, at), operation: "copy", inputs: []solver.Edge{{Vertex: base}, {Vertex: from}}}
			all.inputs = append(all.inputs, solver.Edge{Vertex: made})
		}
		return all
	}
	build := func(what *plainStep) (results []string) {
		job, err := solve.NewJob(identity.NewID())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = job.Discard() }()
		for _, each := range what.inputs {
			result, err := job.Build(t.Context(), each)
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, result.ID())
		}
		return results
	}
	for round := range rounds {
		build(copies(round, ""))
	}
	if limit := rounds * many * (maxAliases + 4); stored.links > limit {
		t.Errorf("%d links of %d copies, more than %d", stored.links, rounds*many, limit)
	}
	// All of them are found, by their content and by where it is from.
	for _, anew := range []string{"anew ", "anew ", ""} {
		for at, result := range build(copies(rounds-1, anew)) {
			if want := fmt.Sprint("copy ", rounds-1, at); result != want {
				t.Errorf("%s instead of %s", result, want)
			}
		}
	}
}
