package worker

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"github.com/moby/buildkit/cache/contenthash"
)

// idleContexts is how many context directories are kept for later builds.
const idleContexts = 8

// ContextLimits bound an unpacked build context, and each archive in it.
type ContextLimits struct {
	Bytes   int64
	Entries int
}

// theContext is the name of a client's files in errors about limits.
const theContext = "the build context"

// exceeded returns an error that names the exceeded limit, or nil.
func (l ContextLimits) exceeded(what string, bytes int64, entries int) error {
	if bytes > l.Bytes {
		return fmt.Errorf("%s is larger than %d bytes, the limit of builder.context_size", what, l.Bytes)
	}
	if entries > l.Entries {
		return fmt.Errorf("%s has more than %d entries", what, l.Entries)
	}
	return nil
}

// copy copies no more than the limit and a byte, and fails if the limit is exceeded.
func (l ContextLimits) copy(what string, to io.Writer, from io.Reader) (int64, error) {
	size, err := io.Copy(to, io.LimitReader(from, min(l.Bytes, math.MaxInt64-1)+1))
	if err != nil {
		return 0, err
	}
	return size, l.exceeded(what, size, 0)
}

// unpacking counts an archive's content while it is unpacked.
type unpacking struct {
	limits  ContextLimits
	what    string
	bytes   int64
	entries int
}

// add counts an entry of this size, and fails if a limit is exceeded.
func (u *unpacking) add(bytes int64) error {
	u.entries++
	// An overflow exceeds the limit as well.
	if u.bytes += bytes; u.bytes < 0 {
		u.bytes = math.MaxInt64
	}
	return u.limits.exceeded(u.what, u.bytes, u.entries)
}

// contextDir holds a client's files. One build uses it at a time; the next with the same key sends only changes.
type contextDir struct {
	path string
	// Identifies the client's files; "" is not kept.
	key string
	// Its owner removes it, once its build is over.
	isBorrowed bool

	mu sync.Mutex
	// BuildKit's metadata of the files: their checksums. BuildKit's own memory cache keeps those of few directories.
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

// contexts are the directories of build contexts, which do not outlive the builder.
type contexts struct {
	root string
	// Directories by session.
	served sync.Map

	mu   sync.Mutex
	idle []*contextDir
}

// Serve uses a directory of this machine as the files of a session, by its ID, until `done` is called: a build that
// needs all of them does not copy them.
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

// putBack keeps a directory for the next build, and removes the oldest if there are too many.
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
