package server

import (
	"strconv"
	"testing"

	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
)

// countingCache gives so many keys for each step and key that it is asked with, and counts how often it is gone through.
type countingCache struct {
	solver.CacheManager
	keys  int
	pairs int
}

func (c *countingCache) Query(deps []solver.CacheKeyWithSelector, _ solver.Index, of digest.Digest, output solver.Index) ([]*solver.CacheKey, error) {
	var given []*solver.CacheKey
	for range deps {
		for at := range c.keys {
			given = append(given, solver.NewCacheKey(of+digest.Digest(strconv.Itoa(at)), "", output))
		}
	}
	c.pairs += len(deps) * len(given)
	return given, nil
}

func countingBehind(keys *stepKeys, count int) (*cacheBehind, *countingCache) {
	counting := &countingCache{keys: count}
	made := newCacheBehind("cache", keys)
	made.cache = counting
	close(made.described)
	return made, counting
}

func keysOfAStep(count int) []solver.CacheKeyWithSelector {
	made := make([]solver.CacheKeyWithSelector, count)
	for at := range made {
		made[at].CacheKey.CacheKey = solver.NewCacheKey(digest.Digest(strconv.Itoa(at)), "", 0)
	}
	return made
}

// BuildKit goes through the square of a step's keys in the one goroutine that schedules every build.
func TestImportedCachesGiveFewKeysForAStepTogether(t *testing.T) {
	keys := &stepKeys{}
	first, _ := countingBehind(keys, 100)
	second, _ := countingBehind(keys, 100)
	for count, most := range map[int]int{1: maxStepKeys, 100: maxStepLinks / 100} {
		deps, given := keysOfAStep(count), 0
		for _, each := range []*cacheBehind{first, second} {
			found, err := each.Query(deps, 0, "step", 0)
			if err != nil {
				t.Fatal(err)
			}
			given += len(found)
		}
		if given != most {
			t.Errorf("%d keys for a step on one of %d", given, count)
		}
	}
}

func TestAnImportedCacheIsGoneThroughForSoManyLinksOnly(t *testing.T) {
	made, counting := countingBehind(&stepKeys{}, 100)
	deps := keysOfAStep(100)
	for range 100 {
		if _, err := made.Query(deps, 0, "step", 0); err != nil {
			t.Fatal(err)
		}
	}
	if counting.pairs > 2*maxImportLinks {
		t.Errorf("it went through %d pairs of keys", counting.pairs)
	}
	if found, err := made.Query(keysOfAStep(1), 0, "step", 0); len(found) > 0 || err != nil {
		t.Errorf("it gives %d, %v", len(found), err)
	}
}

func TestAnImportedCacheServesALargeBuild(t *testing.T) {
	for count, steps := range map[int]int{1: 8192, 3: 2000, 10: 200} {
		keys := &stepKeys{}
		var caches []*cacheBehind
		for range count {
			made, _ := countingBehind(keys, 1)
			caches = append(caches, made)
		}
		for step := range steps {
			deps := keysOfAStep(count)
			for at := range caches {
				if found, err := caches[at].Query(deps, 0, digest.Digest(strconv.Itoa(step)), 0); len(found) != 1 || err != nil {
					t.Fatalf("step %d of one of %d caches: %d keys, %v", step, count, len(found), err)
				}
			}
		}
	}
}
