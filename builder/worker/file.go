package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/contenthash"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	fileops "github.com/moby/buildkit/solver/llbsolver/file"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	fscopy "github.com/tonistiigi/fsutil/copy"
)

// fileOp is BuildKit's own file operation on fetched files: before it runs, the states' files that it will read are
// fetched, and its target's skeleton is filled with what it will look at.
type fileOp struct {
	solver.Op
	worker     *Worker
	actions    []*pb.FileAction
	manager    *manager
	references *fileops.RefManager

	mu sync.Mutex
	// Whether it has a slot for decompression.
	hasSlot bool
}

func (w *Worker) newFileOp(v solver.Vertex, op *pb.Op_File) (solver.Op, error) {
	if err := refuseCopies(op.File.Actions); err != nil {
		return nil, err
	}
	made := &fileOp{worker: w, actions: op.File.Actions, manager: &manager{Worker: w, description: v.Name()}}
	made.references = fileops.NewRefManager(made.manager, v.Name())
	real, err := ops.NewFileOp(v, op, made.manager, nil, w)
	made.Op = real
	return made, err
}

// CacheMap is BuildKit's, with checksums of states' files computed from what they select.
func (o *fileOp) CacheMap(ctx context.Context, job solver.JobContext, index int) (*solver.CacheMap, bool, error) {
	made, done, err := o.Op.CacheMap(ctx, job, index)
	return o.worker.overFetched(made, o.pathsRead), done, err
}

// overFetched has an operation's checksums computed after fetching the paths that it reads of each input.
func (w *Worker) overFetched(made *solver.CacheMap, pathsOf func(input int) []string) *solver.CacheMap {
	if made != nil {
		for input := range made.Deps {
			if compute := made.Deps[input].ComputeDigestFunc; compute != nil {
				made.Deps[input].ComputeDigestFunc = w.fetching(pathsOf(input), compute)
			}
		}
	}
	return made
}

// fetching computes a checksum of a state after fetching the paths that it reads.
func (w *Worker) fetching(paths []string, compute solver.ResultBasedCacheFunc) solver.ResultBasedCacheFunc {
	return func(ctx context.Context, result solver.Result, group session.Group) (digest.Digest, error) {
		scoped, err := w.scoped(ForBuilds(ctx, group), result, paths)
		if err != nil {
			return "", err
		}
		if known, ok := scoped.Sys().(*bkworker.WorkerRef).ImmutableRef.(*scopedRef); ok {
			defer contenthash.ClearCacheContext(known)
		}
		return compute(ctx, scoped, group)
	}
}

// scoped fetches paths of a state and returns a result limited to them. A context, and a state of which nothing is read,
// is returned unchanged.
func (w *Worker) scoped(ctx context.Context, result solver.Result, paths []string) (solver.Result, error) {
	reference, ok := result.Sys().(*bkworker.WorkerRef)
	if !ok {
		return nil, fmt.Errorf("a result of type %T", result.Sys())
	}
	state, ok := reference.ImmutableRef.(*ref)
	if !ok || !state.isState() || len(paths) == 0 {
		return result, nil
	}
	for _, each := range paths {
		if err := state.files.fetch(ctx, each); err != nil {
			return nil, err
		}
	}
	if _, err := state.files.look(ctx, "/"); err != nil {
		return nil, err
	}
	return bkworker.NewWorkerRefResult(&scopedRef{state, "@" + identity.NewID()}, w), nil
}

// pathsRead lists the paths of an input that the actions read, cut before wildcards.
func (o *fileOp) pathsRead(input int) []string {
	var paths []string
	for _, action := range o.actions {
		if from := action.GetCopy(); from != nil && int(action.SecondaryInput) == input {
			paths = append(paths, withoutWildcards(from.Src, from.AllowWildcard))
		}
		for _, owner := range ownersOf(action) {
			if byName := owner.GetByName(); byName != nil && int(byName.Input) == input {
				paths = append(paths, "/etc/passwd", "/etc/group")
			}
		}
	}
	return paths
}

func ownersOf(action *pb.FileAction) []*pb.UserOpt {
	owner := ownerOf(action)
	return []*pb.UserOpt{owner.GetUser(), owner.GetGroup()}
}

// ownerOf returns the owner that an action sets; nil: none.
func ownerOf(action *pb.FileAction) *pb.ChownOpt {
	switch kind := action.Action.(type) {
	case *pb.FileAction_Copy:
		return kind.Copy.Owner
	case *pb.FileAction_Mkdir:
		return kind.Mkdir.Owner
	case *pb.FileAction_Mkfile:
		return kind.Mkfile.Owner
	case *pb.FileAction_Symlink:
		return kind.Symlink.Owner
	}
	return nil
}

// withoutWildcards cuts a path at its first element with a wildcard.
func withoutWildcards(name string, allowed bool) string {
	if !allowed {
		return name
	}
	elements := strings.Split(path.Clean("/"+name), "/")
	for at, element := range elements {
		if strings.ContainsAny(element, `*?[\`) {
			return path.Join("/", path.Join(elements[:at]...))
		}
	}
	return name
}

func (o *fileOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) (outputs []solver.Result, err error) {
	ctx = ForBuilds(ctx, job.Session())
	scoped := make([]solver.Result, len(inputs))
	for at, input := range inputs {
		if scoped[at], err = o.worker.scoped(ctx, input, o.pathsRead(at)); err != nil {
			return nil, err
		}
	}
	defer o.releaseSlot()
	o.manager.prepare = func(ctx context.Context, skeleton *tree) error { return o.show(ctx, skeleton, scoped) }
	if mayLink(o.actions) {
		outputs, err = o.execLinking(ctx, job.Session(), scoped)
	} else {
		outputs, err = o.Op.Exec(ctx, job, scoped)
	}
	return unlessCancelled(ctx, outputs, err)
}

// acquireSlot waits for a slot if a file is in xz or zstd. The operation keeps it to its end, because BuildKit unpacks the
// file later. BuildKit prepares an operation's outputs at once, which share the slot.
func (o *fileOp) acquireSlot(ctx context.Context, file string) error {
	if !fileHasWindow(file) {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hasSlot {
		return nil
	}
	if decompressionSlots.Acquire(ctx, 1) != nil {
		return context.Cause(ctx)
	}
	o.hasSlot = true
	return nil
}

func (o *fileOp) releaseSlot() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hasSlot {
		o.hasSlot = false
		decompressionSlots.Release(1)
	}
}

// show fills a skeleton with everything that the actions may find.
func (o *fileOp) show(ctx context.Context, skeleton *tree, inputs []solver.Result) error {
	if err := skeleton.lookAll(ctx, ahead(o.actions)); err != nil {
		return err
	}
	for _, action := range o.actions {
		var err error
		switch kind := action.Action.(type) {
		case *pb.FileAction_Mkdir:
			_, err = skeleton.look(ctx, kind.Mkdir.Path)
		case *pb.FileAction_Mkfile:
			_, err = skeleton.look(ctx, kind.Mkfile.Path)
		case *pb.FileAction_Symlink:
			_, err = skeleton.look(ctx, kind.Symlink.Newpath)
		case *pb.FileAction_Rm:
			if kind.Rm.AllowWildcard {
				return errors.New("sockerless: the removal of files by a wildcard is not implemented by the builder")
			}
			_, err = skeleton.look(ctx, kind.Rm.Path)
		case *pb.FileAction_Copy:
			err = o.showCopy(ctx, skeleton, kind.Copy, int(action.SecondaryInput), inputs)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ahead lists paths that actions are known to look at, to be asked for at once, within bounds.
func ahead(actions []*pb.FileAction) []string {
	paths := []string{"/"}
	for _, action := range actions[:min(len(actions), maxAhead)] {
		switch kind := action.Action.(type) {
		case *pb.FileAction_Mkdir:
			paths = append(paths, kind.Mkdir.Path)
		case *pb.FileAction_Mkfile:
			paths = append(paths, kind.Mkfile.Path)
		case *pb.FileAction_Symlink:
			paths = append(paths, kind.Symlink.Newpath)
		case *pb.FileAction_Copy:
			paths = append(paths, path.Join(kind.Copy.Dest, path.Base(kind.Copy.Src)))
		}
	}
	return slices.DeleteFunc(paths, func(each string) bool { return len(each) > maxAheadBytes })
}

// maxAhead and maxAheadBytes bound what is asked for at once: each path comes with its parents.
const (
	maxAhead      = 100
	maxAheadBytes = 255
)

func (o *fileOp) showCopy(ctx context.Context, skeleton *tree, action *pb.FileActionCopy, input int, inputs []solver.Result) error {
	if _, err := skeleton.look(ctx, action.Dest); err != nil {
		return err
	}
	if input < 0 || input >= len(inputs) {
		return nil
	}
	reference := inputs[input].Sys().(*bkworker.WorkerRef).ImmutableRef
	if reference == nil {
		return nil
	}
	dir, err := directoryOf(ctx, reference)
	if err != nil {
		return err
	}
	sources := []string{path.Clean("/" + action.Src)}
	if action.AllowWildcard {
		if sources, err = fscopy.ResolveWildcards(dir, action.Src, action.FollowSymlink); err != nil {
			return err
		}
	}
	for _, source := range sources {
		file, err := continuity.RootPath(dir, source)
		if err != nil {
			return err
		}
		if action.AttemptUnpackDockerCompatibility {
			if err := o.acquireSlot(ctx, file); err != nil {
				return err
			}
			isArchive, err := o.worker.showArchive(ctx, skeleton, file, source, action.Dest)
			if err != nil {
				return err
			}
			if isArchive {
				continue
			}
		}
		if err := showTree(ctx, skeleton, file, action.Dest); err != nil {
			return err
		}
		if base := path.Base(source); base != "/" {
			if err := showTree(ctx, skeleton, file, path.Join(action.Dest, base)); err != nil {
				return err
			}
		}
	}
	return nil
}

func directoryOf(ctx context.Context, reference cache.ImmutableRef) (string, error) {
	mounted, err := reference.Mount(ctx, true, nil)
	if err != nil {
		return "", err
	}
	return string(mounted.(directory)), nil
}

// showTree fills a skeleton with the existing files where a file or directory will be copied to, all of one depth at a
// time. A copy into a missing directory finds nothing.
func showTree(ctx context.Context, skeleton *tree, source, dest string) error {
	for level := []placed{{source, dest}}; len(level) > 0; {
		var next []placed
		var asked []string
		ask := func() error {
			err := skeleton.lookAll(ctx, asked)
			asked = nil
			return err
		}
		for _, each := range level {
			at, entries, err := entriesToMerge(ctx, skeleton, each)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				if asked = append(asked, path.Join(at, entry.Name())); len(asked) == maxAsked {
					if err := ask(); err != nil {
						return err
					}
				}
				if entry.IsDir() {
					next = append(next, placed{filepath.Join(each.source, entry.Name()), path.Join(each.dest, entry.Name())})
				}
			}
		}
		if err := ask(); err != nil {
			return err
		}
		level = next
	}
	return nil
}

// placed is a file of this machine and the path in a skeleton to which it is copied.
type placed struct{ source, dest string }

// entriesToMerge returns the entries of a source directory whose destination is a directory too, and where that one is.
func entriesToMerge(ctx context.Context, skeleton *tree, each placed) (at string, entries []fs.DirEntry, err error) {
	at, there, err := skeleton.lookAt(ctx, each.dest)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	here, err := os.Lstat(each.source)
	if err != nil || !here.IsDir() || !there.IsDir() {
		return "", nil, nil
	}
	entries, err = os.ReadDir(each.source)
	return at, entries, err
}
