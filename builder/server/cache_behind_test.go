package server

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless/builder/worker"
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

func countingBehind(t *testing.T, keys *stepKeys, count int) (*cacheBehind, *countingCache) {
	counting := &countingCache{keys: count}
	made := newCacheBehind("cache", keys, func(failure error) { t.Error(failure) })
	made.cache = counting
	close(made.described)
	return made, counting
}

// withDeps gives keys so many keys each that they are of.
func withDeps(keys []solver.CacheKeyWithSelector, count int) []solver.CacheKeyWithSelector {
	for _, key := range keys {
		deps := reflect.ValueOf(key.CacheKey.CacheKey).Elem().FieldByName("deps")
		reflect.NewAt(deps.Type(), deps.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf([][]solver.CacheKeyWithSelector{keysOfAStep(count)}))
	}
	return keys
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
	first, _ := countingBehind(t, keys, 100)
	second, _ := countingBehind(t, keys, 100)
	for count, most := range map[int]int{1: maxStepKeys, 100: maxStepLinks/100 + 1} {
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

func TestEachOfManyImportedCachesGivesAKey(t *testing.T) {
	keys := &stepKeys{}
	deps := keysOfAStep(worker.MaxImports)
	for at := range worker.MaxImports {
		made, _ := countingBehind(t, keys, 1)
		if found, err := made.Query(deps, 0, "step", 0); len(found) != 1 || err != nil {
			t.Fatalf("cache %d gives %d, %v", at, len(found), err)
		}
	}
}

func TestAnImportedCacheIsGoneThroughForSoManyLinksOnly(t *testing.T) {
	made, counting := countingBehind(t, &stepKeys{}, 100)
	told := make(chan error, 100)
	made.tell = func(failure error) { told <- failure }
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
	if failure := <-told; !strings.Contains(failure.Error(), "more than 65536 links") || len(told) > 0 {
		t.Errorf("told %v, and %d more", failure, len(told))
	}
}

func TestAnImportedCachesLinksOfAKeyAreCountedOnce(t *testing.T) {
	made, _ := countingBehind(t, &stepKeys{}, 1)
	deps := withDeps(keysOfAStep(1), 1000)
	for step := range 1000 {
		if found, err := made.Query(deps, 0, digest.Digest(strconv.Itoa(step)), 0); len(found) != 1 || err != nil {
			t.Fatalf("step %d: %d keys, %v", step, len(found), err)
		}
	}
	left := made.left
	if _, err := made.Query(withDeps(keysOfAStep(1), 1000), 0, "step", 0); err != nil || left-made.left < 1000 {
		t.Errorf("a new key counts %d, %v", left-made.left, err)
	}
}

// Each step has a key of each cache, which is of all keys of the step before.
func TestAnImportedCacheServesALargeBuild(t *testing.T) {
	for count, steps := range map[int]int{1: 8192, 3: 2000, 10: 200} {
		keys := &stepKeys{}
		var caches []*cacheBehind
		for range count {
			made, _ := countingBehind(t, keys, 1)
			caches = append(caches, made)
		}
		for step := range steps {
			deps := withDeps(keysOfAStep(count), count)
			for at := range caches {
				if found, err := caches[at].Query(deps, 0, digest.Digest(strconv.Itoa(step)), 0); len(found) != 1 || err != nil {
					t.Fatalf("step %d of one of %d caches: %d keys, %v", step, count, len(found), err)
				}
			}
		}
	}
}
