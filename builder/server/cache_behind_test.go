package server

import (
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/builder/worker"
)

// countingCache gives so many keys for each step and key that it is asked with, and counts how often it is gone through.
type countingCache struct {
	solver.CacheManager
	name  string
	keys  int
	pairs int
}

func (c *countingCache) Query(deps []solver.CacheKeyWithSelector, _ solver.Index, of digest.Digest, output solver.Index) ([]*solver.CacheKey, error) {
	var given []*solver.CacheKey
	for range deps {
		for at := range c.keys {
			given = append(given, solver.NewCacheKey(of+digest.Digest(c.name+strconv.Itoa(at)), "", output))
		}
	}
	c.pairs += len(deps) * len(given)
	return given, nil
}

func countingBehind(t *testing.T, keys *imports, count int) (*cacheBehind, *countingCache) {
	counting := &countingCache{keys: count}
	made := newCacheBehind("cache", keys, func(failure error) { t.Error(failure) })
	made.cache = counting
	close(made.described)
	return made, counting
}

// withDeps gives keys so many keys each that they are of.
func withDeps(keys []solver.CacheKeyWithSelector, count int) []solver.CacheKeyWithSelector {
	for _, key := range keys {
		setDeps(key, keysOfAStep(count))
	}
	return keys
}

func setDeps(key solver.CacheKeyWithSelector, of ...[]solver.CacheKeyWithSelector) {
	deps := reflect.ValueOf(key.CacheKey.CacheKey).Elem().FieldByName("deps")
	reflect.NewAt(deps.Type(), deps.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(of))
}

func testLinks() *rate.Limiter { return rate.NewLimiter(0, linkBurst) }

func keysOfAStep(count int) []solver.CacheKeyWithSelector {
	made := make([]solver.CacheKeyWithSelector, count)
	for at := range made {
		made[at].CacheKey.CacheKey = solver.NewCacheKey(digest.Digest(strconv.Itoa(at)), "", 0)
	}
	return made
}

// BuildKit goes through the square of a step's keys in the one goroutine that schedules every build.
func TestImportedCachesGiveFewKeysForAStepTogether(t *testing.T) {
	keys := newImports(testLinks())
	first, _ := countingBehind(t, keys, 100)
	second, _ := countingBehind(t, keys, 100)
	for count, most := range map[int]int{1: maxStepKeys, 100: maxStepLinks/100 + 1} {
		deps, given := keysOfAStep(count), 0
		for _, each := range []*cacheBehind{first, second} {
			found, err := each.Query(deps, 0, "step", 0)
			assert.NilError(t, err)
			given += len(found)
		}
		assert.Check(t, given == most, "%d keys for a step on one of %d", given, count)
	}
}

func TestEachOfManyImportedCachesGivesAKey(t *testing.T) {
	keys := newImports(testLinks())
	deps := keysOfAStep(worker.MaxImports)
	for at := range worker.MaxImports {
		made, _ := countingBehind(t, keys, 1)
		if found, err := made.Query(deps, 0, "step", 0); len(found) != 1 || err != nil {
			t.Fatalf("cache %d gives %d, %v", at, len(found), err)
		}
	}
}

func TestImportedCachesAreGoneThroughForSoManyLinksOnly(t *testing.T) {
	const burst = 200_000
	all, pairs := &sessionImports{shared: rate.NewLimiter(0, burst)}, 0
	shared := all.get("session")
	told := make(chan error, 100)
	var last *cacheBehind
	step := keysOfAStep(100)
	for range worker.MaxImports {
		made, counting := countingBehind(t, shared, 100)
		made.tell = func(failure error) { told <- failure }
		for range 10 {
			_, err := made.Query(step, 0, "step", 0)
			assert.NilError(t, err)
		}
		last, pairs = made, pairs+counting.pairs
		assert.Assert(t, pairs <= 2*(burst+ordinaryLinks), "they went through %d pairs of keys", pairs)
	}
	if found, err := last.Query(step, 0, "step", 0); len(found) > 0 || err != nil {
		t.Errorf("one gives %d, %v", len(found), err)
	}
	if failure := <-told; !strings.Contains(failure.Error(), "too many links") || len(told) > 0 {
		t.Errorf("told %v, and %d more", failure, len(told))
	}
	// Others have ordinary ones nevertheless.
	other, _ := countingBehind(t, all.get("other"), 1)
	for step := range ordinaryLinks / 2 {
		if found, err := other.Query(keysOfAStep(1), 0, digest.Digest(strconv.Itoa(step)), 0); len(found) != 1 || err != nil {
			t.Fatalf("step %d of another session: %d keys, %v", step, len(found), err)
		}
	}
}

func TestImportedCachesAreGoneThroughAgainOnceBuildsMay(t *testing.T) {
	shared := newImports(rate.NewLimiter(0, linkBurst))
	made, counting := countingBehind(t, shared, 1)
	told := make(chan error, 100)
	made.tell = func(failure error) { told <- failure }
	deps := withDeps(keysOfAStep(1), 2*ordinaryLinks)
	asked := func() int {
		t.Helper()
		found, err := made.Query(deps, 0, "step", 0)
		assert.NilError(t, err)
		return len(found)
	}
	shared.shared = rate.NewLimiter(0, ordinaryLinks)
	if found := asked() + asked(); found > 0 {
		t.Errorf("%d keys without room", found)
	}
	shared.shared = rate.NewLimiter(0, linkBurst)
	if found := asked(); found != 1 {
		t.Errorf("%d keys once there is room", found)
	}
	if left := shared.shared.Tokens(); left > linkBurst-2*ordinaryLinks {
		t.Errorf("the links of a key that was refused before count %f", linkBurst-left)
	}
	// Keys that are found and not given have been gone through.
	shared.shared = rate.NewLimiter(0, ordinaryLinks)
	counting.keys = 2 * ordinaryLinks
	before := counting.pairs
	for range 10 {
		if found := asked(); found > 0 {
			t.Errorf("%d keys of too many", found)
		}
	}
	if counting.pairs-before != counting.keys {
		t.Errorf("it went through %d pairs", counting.pairs-before)
	}
	<-told
	assert.Check(t, len(told) <= 0, "told %d times more", len(told))
}

func TestACacheIsAskedWithItsOwnKeysOrElseAllKeys(t *testing.T) {
	shared := newImports(testLinks())
	knows, counting := countingBehind(t, shared, 1)
	counting.name = "a "
	other, others := countingBehind(t, shared, 1)
	others.name = "b "
	var both []solver.CacheKeyWithSelector
	for _, each := range []*cacheBehind{knows, other} {
		found, err := each.Query(keysOfAStep(1), 0, "step", 0)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		both = append(both, solver.CacheKeyWithSelector{CacheKey: solver.ExportableCacheKey{CacheKey: found[0]}})
	}
	for what, each := range map[string]struct {
		keys  []solver.CacheKeyWithSelector
		pairs int
	}{
		"its own among others'": {append(keysOfAStep(5), both...), 1},
		"keys that are not its": {append(keysOfAStep(5), both[1]), 6},
	} {
		before := counting.pairs
		if _, err := knows.Query(each.keys, 0, "next", 0); err != nil || counting.pairs-before != each.pairs {
			t.Errorf("asked with %s, it goes through %d instead of %d, %v", what, counting.pairs-before, each.pairs, err)
		}
	}
}

func TestImportsOfASessionShareTheirLinks(t *testing.T) {
	all := &sessionImports{shared: testLinks()}
	first := all.get("session")
	if all.get("session") != first || all.get("another") == first {
		t.Error("a session's are not its own")
	}
	runtime.KeepAlive(first)
	for range 1000 {
		runtime.GC()
		all.mu.Lock()
		left := len(all.of)
		all.mu.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("imports that are gone are remembered")
}

func TestAnImportedCachesLinksOfAKeyAreCountedOnce(t *testing.T) {
	made, counting := countingBehind(t, newImports(testLinks()), 1)
	counting.name = "a "
	deps := withDeps(keysOfAStep(1), 1000)
	for step := range 1000 {
		if found, err := made.Query(deps, 0, digest.Digest(strconv.Itoa(step)), 0); len(found) != 1 || err != nil {
			t.Fatalf("step %d: %d keys, %v", step, len(found), err)
		}
	}
	left := made.imports.links
	if _, err := made.Query(withDeps(keysOfAStep(1), 1000), 0, "step", 0); err != nil || left-made.imports.links < 1000 {
		t.Errorf("a new key counts %d, %v", left-made.imports.links, err)
	}
}

// Each step has a key of each cache, which is of all keys of the step before.
func TestImportedCachesServeALargeBuild(t *testing.T) {
	for count, steps := range map[int]int{1: 8192, 3: 8192, 10: 2000, worker.MaxImports: 100} {
		shared := newImports(testLinks())
		var caches []*cacheBehind
		for at := range count {
			made, counting := countingBehind(t, shared, 1)
			counting.name = strconv.Itoa(at) + " "
			caches = append(caches, made)
		}
		deps := keysOfAStep(1)
		for step := range steps {
			var next []solver.CacheKeyWithSelector
			for at := range caches {
				found, err := caches[at].Query(deps, 0, digest.Digest(strconv.Itoa(step)), 0)
				if len(found) != 1 || err != nil {
					t.Fatalf("step %d of one of %d caches: %d keys, %v", step, count, len(found), err)
				}
				next = append(next, solver.CacheKeyWithSelector{CacheKey: solver.ExportableCacheKey{CacheKey: found[0]}})
			}
			deps = withDeps(next, count)
		}
	}
}

// Keys of steps that this cache was not asked for are of each other: BuildKit goes through all of them for the ID of the last.
func TestAllLinksOfAnImportedCacheThatAreGoneThroughAreCounted(t *testing.T) {
	const levels, many = 20, 30
	stored := &countingWalks{countingLinks: &countingLinks{CacheKeyStorage: solver.NewInMemoryCacheStorage()}}
	shared := newImports(testLinks())
	shared.links = 0
	made := newCacheBehind("cache", shared, func(error) {})
	made.cache = solver.NewCacheManager(t.Context(), "cache", stored, solver.NewInMemoryResultStorage())
	close(made.described)
	digestOf := func(level int) digest.Digest { return digest.Digest(fmt.Sprintf("step %d", level)) }
	keys := keysOfAStep(many)
	for at := range keys {
		assert.NilError(t, stored.AddLink(keys[at].CacheKey.ID, solver.CacheInfoLink{Digest: digestOf(1)}, "found 1"))
	}
	for level := 1; level <= levels; level++ {
		if err := stored.AddLink(fmt.Sprintf("found %d", level), solver.CacheInfoLink{Digest: digestOf(level + 1)}, fmt.Sprintf("found %d", level+1)); err != nil {
			t.Fatal(err)
		}
		next := make([]solver.CacheKeyWithSelector, many)
		for at := range next {
			next[at].CacheKey.CacheKey = solver.NewCacheKey(digestOf(level), "", 0)
			next[at].CacheKey.ID = fmt.Sprintf("other %d of %d", at, level)
			setDeps(next[at], keys)
		}
		keys = next
	}
	ask := func() []*solver.CacheKey {
		t.Helper()
		found, err := made.Query(keys, 0, digestOf(levels+1), 0)
		assert.NilError(t, err)
		return found
	}
	shared.shared = rate.NewLimiter(0, 2*many*many)
	if found := ask(); len(found) > 0 || stored.asked > 2*many*many {
		t.Errorf("%d keys, gone through %d times", len(found), stored.asked)
	}
	// It goes on from there.
	for range 2 * levels {
		shared.shared = rate.NewLimiter(0, 2*many*many)
		before := stored.asked
		found := ask()
		if stored.asked-before > 2*many*many {
			t.Errorf("gone through %d times", stored.asked-before)
		}
		if len(found) > 0 {
			if found[0].ID != fmt.Sprintf("found %d", levels+1) {
				t.Errorf("found %s", found[0].ID)
			}
			return
		}
	}
	t.Error("it is not found")
}

// A step's key may be of a key of its input's definition and of one of its content, which BuildKit takes both.
func TestAKeyIsFoundByAnotherOfItsInputThanTheOneThatACacheHasGiven(t *testing.T) {
	stored := solver.NewInMemoryCacheStorage()
	made := newCacheBehind("cache", newImports(testLinks()), func(failure error) { t.Error(failure) })
	made.cache = solver.NewCacheManager(t.Context(), "cache", stored, solver.NewInMemoryResultStorage())
	close(made.described)
	input := keysOfAStep(2)
	definition, content := input[0], input[1]
	made.given[definition.CacheKey.ID] = definition.CacheKey.CacheKey
	assert.NilError(t, stored.AddLink(content.CacheKey.ID, solver.CacheInfoLink{Digest: "step 1"}, "found 1"))
	assert.NilError(t, stored.AddLink("found 1", solver.CacheInfoLink{Digest: "step 2"}, "found 2"))
	other := keysOfAStep(1)
	other[0].CacheKey.CacheKey = solver.NewCacheKey("step 1", "", 0)
	other[0].CacheKey.ID = "other 1"
	setDeps(other[0], input)
	found, err := made.Query(other, 0, "step 2", 0)
	if err != nil || len(found) != 1 || found[0].ID != "found 2" {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestFurtherInputsOfAKeyWithoutAnyAreNotGoneThrough(t *testing.T) {
	made, _ := countingBehind(t, newImports(testLinks()), 0)
	keys := keysOfAStep(1)
	setDeps(keys[0], keysOfAStep(1), keysOfAStep(1000))
	found, err := made.Query(keys, 0, "step", 0)
	assert.NilError(t, err)
	if links := ordinaryLinks - made.imports.links; len(found) > 0 || links > 2 {
		t.Errorf("%d keys, %d links counted", len(found), links)
	}
}
