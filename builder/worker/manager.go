package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/sys/user"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// manager is BuildKit's cache manager for operations: its mutable references are skeletons of the parent's files, in
// which an operation works as if they were complete.
type manager struct {
	*Worker
	// Description of the result in the build cache.
	description string
	// Fills a skeleton with what the operation will look at; may be nil.
	prepare func(ctx context.Context, skeleton *tree) error
}

var _ cache.Manager = (*manager)(nil)

var errNotKept = errors.New("not kept by a builder of sockerless")

func (m *manager) Search(context.Context, string, bool) ([]cache.RefMetadata, error) { return nil, nil }
func (m *manager) GetByBlob(context.Context, ocispecs.Descriptor, cache.ImmutableRef, ...cache.RefOption) (cache.ImmutableRef, error) {
	return nil, errNotKept
}
func (m *manager) Get(ctx context.Context, id string, _ progress.Controller, _ ...cache.RefOption) (cache.ImmutableRef, error) {
	return m.LoadRef(ctx, id, false)
}
func (m *manager) GetMutable(context.Context, string, ...cache.RefOption) (cache.MutableRef, error) {
	return nil, errNotKept
}
func (m *manager) IdentityMapping() *user.IdentityMapping { return nil }
func (m *manager) Close() error                           { return nil }

// Merge stacks the layers of states, for `COPY --link`.
func (m *manager) Merge(ctx context.Context, parents []cache.ImmutableRef, _ progress.Controller, _ ...cache.RefOption) (cache.ImmutableRef, error) {
	var diffIDs []digest.Digest
	from := origin{description: m.description, kind: client.UsageRecordTypeRegular}
	for at, each := range parents {
		parent, release, err := m.baseOf(ctx, each)
		if err != nil {
			return nil, err
		}
		if release != nil {
			defer release(context.WithoutCancel(ctx))
		}
		if at == 0 {
			from.parent = parent.id
		}
		diffIDs = append(diffIDs, parent.diffIDs...)
	}
	merged, err := m.states.install(ctx, diffIDs, nil, from)
	if err != nil {
		return nil, err
	}
	return m.stateRef(merged), nil
}

// Diff returns the layers of one state on top of another.
func (m *manager) Diff(ctx context.Context, lower, upper cache.ImmutableRef, _ progress.Controller, _ ...cache.RefOption) (cache.ImmutableRef, error) {
	above, err := stateOf(upper)
	if err != nil {
		return nil, err
	}
	var below []digest.Digest
	if lower != nil {
		base, err := stateOf(lower)
		if err != nil {
			return nil, err
		}
		below = base.diffIDs
	}
	if len(below) > len(above.diffIDs) || !slices.Equal(below, above.diffIDs[:len(below)]) {
		return nil, errors.New("sockerless: the difference of states of which one does not stand on the other is not implemented by the builder")
	}
	rest, err := m.states.install(ctx, above.diffIDs[len(below):], nil, origin{description: m.description, kind: client.UsageRecordTypeRegular})
	if err != nil {
		return nil, err
	}
	return m.stateRef(rest), nil
}

// New starts a state on a parent, or empty.
func (m *manager) New(ctx context.Context, parent cache.ImmutableRef, _ session.Group, _ ...cache.RefOption) (cache.MutableRef, error) {
	made := &growing{manager: m, content: content{worker: m.Worker, id: "growing"}}
	image := ""
	if parent != nil {
		base, release, err := m.baseOf(ctx, parent)
		if err != nil {
			return nil, err
		}
		made.base, made.release, image = base, release, base.id
	}
	made.skeleton = newTree(m.Worker, image, true)
	if err := made.begin(ctx); err != nil {
		return nil, errors.Join(err, made.Release(context.WithoutCancel(ctx)))
	}
	return made, nil
}

// growing is a state that an operation is creating.
type growing struct {
	content
	manager *manager
	base    *ref
	// Releases the base if it is held only for this; may be nil.
	release  func(context.Context) error
	skeleton *tree
	before   map[string]mark
}

var _ cache.MutableRef = (*growing)(nil)

func (g *growing) begin(ctx context.Context) error {
	if g.manager.prepare != nil {
		if err := g.manager.prepare(ctx, g.skeleton); err != nil {
			return err
		}
	}
	if _, err := g.skeleton.look(ctx, "/"); err != nil {
		return err
	}
	if err := g.skeleton.times.restore(g.skeleton.root, "."); err != nil {
		return err
	}
	before, err := marksOf(g.skeleton.dir)
	g.before = before
	return err
}

func (g *growing) Mount(_ context.Context, _ bool, group session.Group) (snapshot.Mountable, error) {
	return skeletonOf{directory(g.skeleton.dir), g.base, group}, nil
}

// skeletonOf is the directory of a growing state with its base, mounted for a build.
type skeletonOf struct {
	directory
	base  *ref
	group session.Group
}

func (g *growing) Release(ctx context.Context) error {
	err := g.skeleton.close()
	if g.release != nil {
		err = errors.Join(err, g.release(ctx))
	}
	return err
}

// Commit turns the changes into a layer, and a state of it.
func (g *growing) Commit(ctx context.Context) (cache.ImmutableRef, error) {
	defer g.Release(ctx)
	layer, err := measured(&layerContent{dir: g.skeleton.dir, before: g.before})
	if err != nil {
		return nil, fmt.Errorf("write a layer: %w", err)
	}
	from := origin{description: g.manager.description, kind: client.UsageRecordTypeRegular}
	var diffIDs []digest.Digest
	if g.base != nil {
		diffIDs = slices.Clone(g.base.diffIDs)
		from.parent = g.base.id
	}
	made, err := g.worker.states.install(ctx, append(diffIDs, layer.DiffID), layer, from)
	if err != nil {
		return nil, err
	}
	return g.worker.stateRef(made), nil
}

// unnamedFile creates a file that is deleted when it is closed.
func (w *Worker) unnamedFile() (*os.File, error) {
	file, err := os.CreateTemp(w.scratch, "layer-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// baseOf returns a reference as the state for a stage's base; a context named in FROM is converted to one, which the
// returned function (else nil) releases.
func (w *Worker) baseOf(ctx context.Context, any cache.ImmutableRef) (*ref, func(context.Context) error, error) {
	if files, ok := any.(*ref); ok && !files.isState() {
		made, _, err := w.stateOfContext(ctx, files, "/", client.UsageRecordTypeRegular)
		if err != nil {
			return nil, nil, err
		}
		return made, made.Release, nil
	}
	known, err := stateOf(any)
	return known, nil, err
}

// stateOf returns a BuildKit reference as the state that it is.
func stateOf(any cache.ImmutableRef) (*ref, error) {
	switch known := any.(type) {
	case *ref:
		if known.isState() {
			return known, nil
		}
	case *scopedRef:
		return known.ref, nil
	}
	return nil, fmt.Errorf("sockerless: a %T in place of an image is not implemented by the builder", any)
}
