package worker

import (
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/moby/buildkit/cache/contenthash"
)

// idleContexts is how many directories of contexts are kept for the next build.
const idleContexts = 8

// ContextLimits bound what a client may have unpacked as its build context, and what an archive in it may hold.
type ContextLimits struct {
	Bytes   int64
	Entries int
}

// theContext is what the limits' refusals call a client's files.
const theContext = "the build context"

// exceeded tells which limit something does not keep.
func (l ContextLimits) exceeded(what string, bytes int64, entries int) error {
	if bytes > l.Bytes {
		return fmt.Errorf("%s is larger than %d bytes, the limit of builder.context_size", what, l.Bytes)
	}
	if entries > l.Entries {
		return fmt.Errorf("%s has more than %d entries", what, l.Entries)
	}
	return nil
}

// unpacking counts what comes out of an archive.
type unpacking struct {
	limits  ContextLimits
	what    string
	bytes   int64
	entries int
}

// add counts an entry of so many bytes and refuses what is too much.
func (u *unpacking) add(bytes int64) error {
	u.entries++
	// A sum that leaves the numbers' range is too large as well.
	if u.bytes += bytes; u.bytes < 0 {
		u.bytes = math.MaxInt64
	}
	return u.limits.exceeded(u.what, u.bytes, u.entries)
}

// contextDir is a client's files. One build has it at a time; the next with the same key sends only what has changed.
type contextDir struct {
	path string
	// Names whose files they are; "" is nobody's, and is not kept.
	key string
	// Somebody else removes it, once its build is over.
	isBorrowed bool

	mu sync.Mutex
	// BuildKit's metadata of the files: their checksums, of which its own cache in memory keeps those of few directories.
	metadata map[string][]byte
}

func (d *contextDir) get(key string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if value, ok := d.metadata[key]; ok {
		return value, nil
	}
	return nil, errNotKept
}

func (d *contextDir) set(key string, value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.metadata == nil {
		d.metadata = map[string][]byte{}
	}
	d.metadata[key] = value
}

func (d *contextDir) remove() error {
	contenthash.ClearCacheContext(&content{id: d.path})
	if d.isBorrowed {
		return nil
	}
	return os.RemoveAll(d.path)
}

// contexts are the directories of build contexts, forgotten when the builder ends.
type contexts struct {
	root string
	// Directories by session.
	served sync.Map

	mu   sync.Mutex
	idle []*contextDir
}

// Serve has the files of a session, by its ID, be those of a directory of this machine until `done` is called: where a
// build wants all of them they are not copied.
func (w *Worker) Serve(sessionID, directory string) (done func()) {
	w.contexts.served.Store(sessionID, directory)
	return func() { w.contexts.served.Delete(sessionID) }
}

func (c *contexts) take(key string) (*contextDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, dir := range c.idle {
		if key != "" && dir.key == key {
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
func (c *contexts) putBack(dir *contextDir) error {
	if dir.key == "" {
		return dir.remove()
	}
	c.mu.Lock()
	c.idle = append(c.idle, dir)
	var surplus *contextDir
	if len(c.idle) > idleContexts {
		surplus, c.idle = c.idle[0], c.idle[1:]
	}
	c.mu.Unlock()
	if surplus == nil {
		return nil
	}
	return surplus.remove()
}
