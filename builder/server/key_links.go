package server

import (
	"sync"

	"github.com/moby/buildkit/solver"
)

// maxAliases is the number of a key's links with one operation from which on these get no aliases.
const maxAliases = 64

// boundedLinks stores the keys of the build cache without most aliases. In the one goroutine that schedules every build,
// BuildKit links all that it finds by one key of a step's input to the input's other keys, each in a transaction: with
// many equal copies, the square of these.
type boundedLinks struct {
	solver.CacheKeyStorage

	mu sync.Mutex
	// Operations of which a key has too many links, by input and output.
	crowded map[solver.CacheInfoLink]struct{}
	// Links that a result needs: BuildKit looks whether there is one before it adds it, which it does with no alias.
	needed map[keyLink]struct{}
}

type keyLink struct {
	from string
	link solver.CacheInfoLink
	to   string
}

func newBoundedLinks(keys solver.CacheKeyStorage) *boundedLinks {
	return &boundedLinks{CacheKeyStorage: keys, crowded: map[solver.CacheInfoLink]struct{}{}, needed: map[keyLink]struct{}{}}
}

// WalkLinks is also called before aliases are added.
func (b *boundedLinks) WalkLinks(from string, link solver.CacheInfoLink, walk func(to string) error) error {
	count := 0
	err := b.CacheKeyStorage.WalkLinks(from, link, func(to string) error {
		count++
		return walk(to)
	})
	if count > maxAliases {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.crowded[operationOf(link)] = struct{}{}
	}
	return err
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

// AddLink adds no alias where there are too many.
func (b *boundedLinks) AddLink(from string, link solver.CacheInfoLink, to string) error {
	b.mu.Lock()
	added := keyLink{from, link, to}
	_, isNeeded := b.needed[added]
	delete(b.needed, added)
	_, isCrowded := b.crowded[operationOf(link)]
	b.mu.Unlock()
	if isCrowded && !isNeeded {
		return nil
	}
	return b.CacheKeyStorage.AddLink(from, link, to)
}
