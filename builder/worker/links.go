package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/sysx"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	fileops "github.com/moby/buildkit/solver/llbsolver/file"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/llbsolver/ops/fileoptypes"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"
)

// linking is BuildKit's file operations, except that copies of directories that keep files unchanged create hard links
// instead of copies. Nothing in such an operation may write to existing files.
type linking struct {
	*fileops.Backend
}

// execLinking replaces BuildKit's Exec.
func (o *fileOp) execLinking(ctx context.Context, group session.Group, inputs []solver.Result) ([]solver.Result, error) {
	references := make([]fileoptypes.Ref, len(inputs))
	for at, input := range inputs {
		references[at] = input.Sys().(*bkworker.WorkerRef).ImmutableRef
	}
	own, err := fileops.NewFileOpBackend(func(owner *pb.ChownOpt, _, _ snapshot.Mountable) (*fscopy.User, error) {
		if owner != nil {
			return nil, errors.New("files that are linked keep their owner")
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	solved, err := ops.NewFileOpSolver(o.worker, linking{own}, o.references).Solve(ctx, references, o.actions, group)
	if err != nil {
		return nil, err
	}
	outputs := make([]solver.Result, len(solved))
	for at, output := range solved {
		outputs[at] = bkworker.NewWorkerRefResult(output.(cache.ImmutableRef), o.worker)
	}
	return outputs, nil
}

// mayLink reports whether an operation contains linkable copies, and none that sets an owner or unpacks an archive,
// either of which may change existing files.
func mayLink(actions []*pb.FileAction) bool {
	found := false
	for _, action := range actions {
		if owner := ownerOf(action); owner != nil || action.GetCopy().GetAttemptUnpackDockerCompatibility() {
			return false
		}
		found = found || keepsFiles(action.GetCopy())
	}
	return found
}

// keepsFiles reports whether a copy takes the content of one directory with unchanged metadata.
func keepsFiles(action *pb.FileActionCopy) bool {
	return action != nil && action.Mode == -1 && action.ModeStr == "" && action.Timestamp == -1 && action.Owner == nil &&
		action.DirCopyContents && action.FollowSymlink && action.CreateDestPath && !action.AlwaysReplaceExistingDestPaths &&
		!action.AttemptUnpackDockerCompatibility && len(action.IncludePatterns) == 0 && len(action.ExcludePatterns) == 0 &&
		withoutWildcards(action.Src, true) == action.Src
}

// Copy links where it can. BuildKit's copy handles the directory first, and everything if an existing file is in the
// way: it overwrites.
func (l linking) Copy(ctx context.Context, from, to, user, group fileoptypes.Mount, action *pb.FileActionCopy) error {
	if keepsFiles(action) {
		err := l.link(ctx, from, to, action)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return l.Backend.Copy(ctx, from, to, user, group, action)
}

var errNotLinked = errors.New("something is in the way of links")

func (l linking) link(ctx context.Context, from, to fileoptypes.Mount, action *pb.FileActionCopy) error {
	source, isHere := directoryAt(from)
	target, isThere := directoryAt(to)
	if !isHere || !isThere {
		return errNotLinked
	}
	root, err := continuity.RootPath(source, action.Src)
	if err != nil {
		return err
	}
	info, err := os.Lstat(root)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errNotLinked
	}
	// Only the directory.
	empty := action.CloneVT()
	empty.ExcludePatterns = []string{"**"}
	if err := l.Backend.Copy(ctx, from, to, nil, nil, empty); err != nil {
		return err
	}
	into, err := continuity.RootPath(target, action.Dest)
	if err != nil {
		return err
	}
	made := &linker{from: root, to: into, copied: map[uint64]string{}}
	if err := made.linkEntries(ctx, ""); err != nil {
		return err
	}
	return setTimes(into, info)
}

func directoryAt(mounted fileoptypes.Mount) (string, bool) {
	known, ok := mounted.(*fileops.Mount)
	if !ok {
		return "", false
	}
	switch at := known.Mountable().(type) {
	case directory:
		return string(at), true
	case skeletonOf:
		return string(at.directory), true
	}
	return "", false
}

// linker links the files of one directory into another.
type linker struct {
	from, to string
	// Copies of files with several names, by inode: they are also one file in the copy, separate from other copies.
	copied map[uint64]string
}

func (l *linker) linkEntries(ctx context.Context, beneath string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	entries, err := os.ReadDir(filepath.Join(l.from, beneath))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := l.linkEntry(ctx, filepath.Join(beneath, entry.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func (l *linker) linkEntry(ctx context.Context, name string, info fs.FileInfo) error {
	source, target := filepath.Join(l.from, name), filepath.Join(l.to, name)
	switch {
	case info.IsDir():
		if err := os.Mkdir(target, info.Mode()); err != nil {
			there, failure := os.Lstat(target)
			if failure != nil || !there.IsDir() {
				return err
			}
		}
		if err := l.linkEntries(ctx, name); err != nil {
			return err
		}
		return copyAttributes(source, target, info)
	case info.Mode().IsRegular():
		return replacing(target, func() error { return l.linkFile(ctx, name, info) })
	case info.Mode()&fs.ModeSymlink != 0:
		leadsTo, err := os.Readlink(source)
		if err != nil {
			return err
		}
		if err := replacing(target, func() error { return os.Symlink(leadsTo, target) }); err != nil {
			return err
		}
		return copyAttributes(source, target, info)
	}
	return errNotLinked
}

func (l *linker) linkFile(ctx context.Context, name string, info fs.FileInfo) error {
	source, target := filepath.Join(l.from, name), filepath.Join(l.to, name)
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Nlink == 1 {
		return os.Link(source, target)
	}
	if first, ok := l.copied[stat.Ino]; ok {
		return os.Link(first, target)
	}
	if _, err := os.Lstat(target); err == nil {
		return fs.ErrExist
	}
	l.copied[stat.Ino] = target
	return fscopy.Copy(ctx, l.from, name, l.to, name, fscopy.AllowXAttrErrors)
}

// replacing creates an entry, replacing an existing one that is not a directory.
func replacing(target string, make func() error) error {
	err := make()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if there, err := os.Lstat(target); err != nil || there.IsDir() {
		return errors.Join(errNotLinked, err)
	}
	if err := os.Remove(target); err != nil {
		return err
	}
	return make()
}

// copyAttributes copies the metadata of a directory or a symbolic link.
func copyAttributes(source, target string, info fs.FileInfo) error {
	stat := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(target, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Chmod(target, info.Mode()); err != nil {
			return err
		}
	}
	copyXattrs(source, target)
	return setTimes(target, info)
}

// copyXattrs skips attributes that the file system refuses, as BuildKit's copy does.
func copyXattrs(source, target string) {
	names, err := sysx.LListxattr(source)
	if err != nil {
		return
	}
	for _, name := range names {
		if value, err := sysx.LGetxattr(source, name); err != nil || sysx.LSetxattr(target, name, value, 0) != nil {
			return
		}
	}
}

func setTimes(target string, info fs.FileInfo) error {
	stat := info.Sys().(*syscall.Stat_t)
	times := []unix.Timespec{{Sec: stat.Atim.Sec, Nsec: stat.Atim.Nsec}, {Sec: stat.Mtim.Sec, Nsec: stat.Mtim.Nsec}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, target, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times of %s: %w", target, err)
	}
	return nil
}
