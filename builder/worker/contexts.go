package worker

import (
	"fmt"
	"os"
	"sync"
)

// idleContexts is how many directories of contexts are kept for the next build.
const idleContexts = 8

// ContextLimits bound what a client may have unpacked as its build context.
type ContextLimits struct {
	Bytes   int64
	Entries int
}

// exceeded tells which limit a context does not keep.
func (l ContextLimits) exceeded(bytes int64, entries int) error {
	if bytes > l.Bytes {
		return fmt.Errorf("the build context is larger than %d bytes, the limit of builder.context_size", l.Bytes)
	}
	if entries > l.Entries {
		return fmt.Errorf("the build context has more than %d entries", l.Entries)
	}
	return nil
}

// contextDir is a client's files. One build has it at a time; the next with the same key sends only what has changed.
type contextDir struct {
	path string
	key  string
}

// contexts are the directories of build contexts, forgotten when the builder ends.
type contexts struct {
	root string

	mu   sync.Mutex
	idle []*contextDir
}

func (c *contexts) take(key string) (*contextDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, dir := range c.idle {
		if dir.key == key {
			c.idle = append(c.idle[:at], c.idle[at+1:]...)
			return dir, nil
		}
	}
	path, err := os.MkdirTemp(c.root, "context-")
	if err != nil {
		return nil, err
	}
	return &contextDir{path: path, key: key}, nil
}

// putBack keeps a directory for the next build; the one that was kept longest goes in its place.
func (c *contexts) putBack(dir *contextDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, dir)
	if len(c.idle) > idleContexts {
		os.RemoveAll(c.idle[0].path)
		c.idle = c.idle[1:]
	}
}

// drop forgets a directory whose content is not known any more.
func (c *contexts) drop(dir *contextDir) error {
	return os.RemoveAll(dir.path)
}
