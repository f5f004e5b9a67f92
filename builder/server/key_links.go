package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/solver"
	"golang.org/x/time/rate"
)

// maxLinks bounds aliases. Where BuildKit finds a step's result by one key of the step's input, it links the input's other
// keys to that result too: these links are aliases. An operation of which a key has more links than this gets no further
// aliases to what that key is linked to. Without an alias BuildKit finds the result by fewer keys, and its getIDFromDeps
// gives a step that runs or is imported again a new ID: nothing wrong is found.
const maxLinks = 64

const (
	// linkRate bounds the links of such keys, and those of imported caches beyond ordinaryLinks, that all builds together go
	// through in a second: each takes 2 to 4 µs, all of them half of the time of the one goroutine that schedules every build.
	// linkBurst takes two seconds.
	linkRate  = 150_000
	linkBurst = 500_000
	// maxCrowded bounds the keys of which it is known how many links they have.
	maxCrowded = 4096
)

// boundedLinks stores the keys of the build cache without most aliases. BuildKit adds them in the one goroutine that
// schedules every build, each in a transaction: with many equal copies, the square of these.
type boundedLinks struct {
	solver.CacheKeyStorage

	// Links that are gone through for all builds.
	shared *rate.Limiter

	mu sync.Mutex
	// The results that have been found by a key with too many links, by operation, input and output. BuildKit makes one
	// query at a time, saves nothing meanwhile, and adds the aliases once it has gone through the links of all its keys: the
	// next walk begins anew.
	crowded map[solver.CacheInfoLink]map[string]struct{}
	isAdded bool
	// Operations of which a key has not been gone through since then: no aliases are added for these.
	refused map[solver.CacheInfoLink]struct{}
	// How many links the keys with too many had.
	sizes map[keyLink]int
	// BuildKit has opened the cache.
	isOpen atomic.Bool
	// Links that a result needs: BuildKit looks whether there is one before it adds it, which it does with no alias.
	needed map[keyLink]struct{}
}

type keyLink struct {
	from string
	link solver.CacheInfoLink
	to   string
}

func newBoundedLinks(keys solver.CacheKeyStorage, shared *rate.Limiter) *boundedLinks {
	return &boundedLinks{
		CacheKeyStorage: keys, shared: shared, crowded: map[solver.CacheInfoLink]map[string]struct{}{},
		refused: map[solver.CacheInfoLink]struct{}{}, needed: map[keyLink]struct{}{}, sizes: map[keyLink]int{},
	}
}

// WalkLinks finds nothing where it would take more than its share of the time: the step runs again. It is also called before
// aliases are added.
func (b *boundedLinks) WalkLinks(from string, link solver.CacheInfoLink, walk func(to string) error) error {
	walked := keyLink{from: from, link: link}
	if !b.mayWalk(walked) {
		return nil
	}
	var found []string
	err := b.CacheKeyStorage.WalkLinks(from, link, func(to string) error {
		found = append(found, to)
		return walk(to)
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beginAnew()
	delete(b.sizes, walked)
	if len(found) > maxLinks {
		if len(b.sizes) == maxCrowded {
			for one := range b.sizes {
				delete(b.sizes, one)
				break
			}
		}
		b.sizes[walked] = len(found)
		operation := operationOf(link)
		if b.crowded[operation] == nil {
			b.crowded[operation] = map[string]struct{}{}
		}
		for _, to := range found {
			b.crowded[operation][to] = struct{}{}
		}
	}
	return err
}

// Walk does nothing where BuildKit opens the cache, since nobody would be served while it looks at each key: those of removed
// states are released where they are found, or after the next prune.
func (b *boundedLinks) Walk(walk func(id string) error) error {
	if !b.isOpen.Swap(true) {
		return nil
	}
	return b.CacheKeyStorage.Walk(walk)
}

func (b *boundedLinks) mayWalk(walked keyLink) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := b.sizes[walked]
	if size == 0 || b.shared.AllowN(time.Now(), min(size, b.shared.Burst())) {
		return true
	}
	b.beginAnew()
	b.refused[operationOf(walked.link)] = struct{}{}
	return false
}

// beginAnew forgets the query before, once its aliases were added.
func (b *boundedLinks) beginAnew() {
	if b.isAdded {
		clear(b.crowded)
		clear(b.refused)
		b.isAdded = false
	}
}

// operationOf is the same for a key and its aliases.
func operationOf(link solver.CacheInfoLink) solver.CacheInfoLink {
	link.Selector = ""
	return link
}

func (b *boundedLinks) HasLink(from string, link solver.CacheInfoLink, to string) bool {
	has := b.CacheKeyStorage.HasLink(from, link, to)
	if !has {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.needed[keyLink{from, link, to}] = struct{}{}
	}
	return has
}

// AddLink adds no alias to one of too many results.
func (b *boundedLinks) AddLink(from string, link solver.CacheInfoLink, to string) error {
	b.mu.Lock()
	added := keyLink{from, link, to}
	_, isNeeded := b.needed[added]
	delete(b.needed, added)
	_, isCrowded := b.crowded[operationOf(link)][to]
	_, isRefused := b.refused[operationOf(link)]
	b.isAdded = true
	b.mu.Unlock()
	if (isCrowded || isRefused) && !isNeeded {
		return nil
	}
	return b.CacheKeyStorage.AddLink(from, link, to)
}
