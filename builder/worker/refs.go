package worker

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/sys/user"
	digest "github.com/opencontainers/go-digest"
)

// content is shared by references: the files of a state, or those of a context.
type content struct {
	worker *Worker
	// Identifies the content; for a state its image's ID.
	id string
	// Set for a state.
	diffIDs []digest.Digest
	files   *tree
	// Set for a context.
	context *contextDir

	mu   sync.Mutex
	refs int
	gone sync.Once
}

// letGo releases the content once: at the last release or the end of the last build.
func (c *content) letGo() (err error) {
	c.gone.Do(func() {
		c.worker.references.forget(c)
		if c.context != nil {
			err = c.worker.contexts.putBack(c.context)
			return
		}
		c.worker.states.letGo(c.id)
		err = c.files.close()
	})
	return err
}

// references are all referenced contents.
type references struct {
	mu   sync.Mutex
	live map[*content]struct{}
}

func (r *references) add(c *content) *content {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live = map[*content]struct{}{}
	}
	r.live[c] = struct{}{}
	return c
}

func (r *references) forget(c *content) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, c)
}

// contextOf returns another reference to a referenced context; nil: none.
func (r *references) contextOf(id string) *ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	for each := range r.live {
		if each.id != id || each.context == nil {
			continue
		}
		each.mu.Lock()
		defer each.mu.Unlock()
		if each.refs == 0 {
			return nil
		}
		each.refs++
		return newRef(each)
	}
	return nil
}

// TakeReferences is called when no build runs. It returns a function that releases all remaining references: BuildKit
// forgets to release some results of steps that end together with their build.
func (w *Worker) TakeReferences() func() error {
	w.references.mu.Lock()
	defer w.references.mu.Unlock()
	left := w.references.live
	w.references.live = nil
	return func() (err error) {
		for each := range left {
			err = errors.Join(err, each.letGo())
		}
		return err
	}
}

// unlessCancelled returns a step's results, or releases them if its build was cancelled, since nobody takes them then.
func unlessCancelled(ctx context.Context, results []solver.Result, err error) ([]solver.Result, error) {
	if err != nil || ctx.Err() == nil {
		return results, err
	}
	err = context.Cause(ctx)
	for _, each := range results {
		err = errors.Join(err, each.Release(context.WithoutCancel(ctx)))
	}
	return nil, err
}

// ref is BuildKit's reference to a state or a context. The last release of a content releases its files.
type ref struct {
	*content
	once      sync.Once
	forgotten runtime.Cleanup
}

// newRef returns a counted reference, which is also released once it is unreachable: BuildKit forgets results of
// cancelled builds, and other builds may run on for long.
func newRef(c *content) *ref {
	made := &ref{content: c}
	made.forgotten = runtime.AddCleanup(made, func(c *content) {
		go func() { Warn("release a forgotten reference", c.release()) }()
	}, c)
	return made
}

var (
	_ cache.ImmutableRef = (*ref)(nil)
	_ cache.ImmutableRef = (*scopedRef)(nil)
)

// stateRef returns a reference to a state, which is held for it.
func (w *Worker) stateRef(r record) *ref {
	made := &content{worker: w, id: r.ID, diffIDs: r.DiffIDs, refs: 1}
	made.files = newTree(w, r.ID, false)
	return newRef(w.references.add(made))
}

func (w *Worker) contextRef(id string, dir *contextDir) *ref {
	return newRef(w.references.add(&content{worker: w, id: id, context: dir, refs: 1}))
}

func (r *ref) Clone() cache.ImmutableRef {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refs++
	return newRef(r.content)
}

func (r *ref) Release(context.Context) (err error) {
	r.once.Do(func() {
		r.forgotten.Stop()
		err = r.release()
	})
	return err
}

// release is called once for each reference.
func (c *content) release() error {
	c.mu.Lock()
	c.refs--
	isLast := c.refs == 0
	c.mu.Unlock()
	if !isLast {
		return nil
	}
	return c.letGo()
}

func (r *ref) isState() bool { return r.context == nil }

// Mount returns the files as a directory: a context's own, or a complete copy of a state's. Operations that know which
// paths they read use a scopedRef.
func (r *ref) Mount(ctx context.Context, _ bool, group session.Group) (snapshot.Mountable, error) {
	if r.context != nil {
		return directory(r.context.path), nil
	}
	if err := r.files.fetch(ForBuilds(ctx, group), "/"); err != nil {
		return nil, err
	}
	return directory(r.files.dir), nil
}

// scopedRef is a reference of which only prefetched paths are read.
type scopedRef struct {
	*ref
	scope string
}

func (s *scopedRef) ID() string                { return s.ref.ID() + s.scope }
func (s *scopedRef) Clone() cache.ImmutableRef { return &scopedRef{s.ref.Clone().(*ref), s.scope} }
func (s *scopedRef) Mount(context.Context, bool, session.Group) (snapshot.Mountable, error) {
	return directory(s.files.dir), nil
}

// directory is a mount that only names itself: without the option "ro" BuildKit uses a bind mount's source directly.
type directory string

func (d directory) Mount() ([]mount.Mount, func() error, error) {
	bind := mount.Mount{Type: "bind", Source: string(d), Options: []string{"rbind"}}
	return []mount.Mount{bind}, func() error { return nil }, nil
}

func (d directory) IdentityMapping() *user.IdentityMapping { return nil }

func (c *content) ID() string                                   { return c.id }
func (c *content) IdentityMapping() *user.IdentityMapping       { return nil }
func (c *content) DescHandler(digest.Digest) *cache.DescHandler { return nil }
func (c *content) Finalize(context.Context) error               { return nil }
func (c *content) Extract(context.Context, session.Group) error { return nil }
func (c *content) FileList(context.Context, session.Group) ([]string, error) {
	return nil, errors.New("a builder of sockerless does not list the files of a state")
}

// The rest is metadata of BuildKit's own cache; only descriptions and the origin of contexts are used here.

func (c *content) GetDescription() string                     { return "" }
func (c *content) SetDescription(string) error                { return nil }
func (c *content) GetCreatedAt() time.Time                    { return time.Time{} }
func (c *content) SetCreatedAt(time.Time) error               { return nil }
func (c *content) HasCachePolicyDefault() bool                { return false }
func (c *content) SetCachePolicyDefault() error               { return nil }
func (c *content) HasCachePolicyRetain() bool                 { return true }
func (c *content) SetCachePolicyRetain() error                { return nil }
func (c *content) GetLayerType() string                       { return "" }
func (c *content) SetLayerType(string) error                  { return nil }
func (c *content) GetRecordType() client.UsageRecordType      { return client.UsageRecordTypeRegular }
func (c *content) SetRecordType(client.UsageRecordType) error { return nil }
func (c *content) GetString(string) string                    { return "" }
func (c *content) Get(string) *metadata.Value                 { return nil }
func (c *content) SetString(string, string, string) error     { return nil }
func (c *content) ClearValueAndIndex(string, string) error    { return nil }

// GetEqualMutable identifies a context's directory, whose checksums outlive the builds that read it.
func (c *content) GetEqualMutable() (cache.RefMetadata, bool) {
	if c.context == nil {
		return nil, false
	}
	return c.worker.originOf(c.context), true
}

// originOf is a directory's content for BuildKit's checksums.
func (w *Worker) originOf(dir *contextDir) *content {
	return &content{worker: w, id: dir.path, context: dir}
}

// GetExternal returns the checksums of a context's files, stored with its directory; a state's are computed from what
// was fetched.
func (c *content) GetExternal(key string) ([]byte, error) {
	if c.context == nil {
		return nil, errNotKept
	}
	return c.context.get(key)
}

func (c *content) SetExternal(key string, value []byte) error {
	if c.context != nil {
		c.context.set(key, value)
	}
	return nil
}
