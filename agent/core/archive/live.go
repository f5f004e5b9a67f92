package archive

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
)

// Live is a root file system as it is mounted, compared with an inventory from
// before the container ran. It is for agents that see no layers.
type Live struct {
	Root   *os.File // the root directory
	Before *Inventory
	Bounds Bounds
}

// Changes reports what differs from the image, like Layers.Changes.
func (l Live) Changes(ctx context.Context, visit func(Change) error) error {
	visitChange := func(change Change, _ int, _ *unix.Stat_t) error { return visit(change) }
	return l.walkChanges(ctx, changeReporter{visit: visitChange}, false)
}

// WriteTar writes the whole file system; see Layers.WriteTar.
func (l Live) WriteTar(ctx context.Context, w io.Writer) error {
	return writeTar(ctx, w, func(a *appender) error {
		a.bounds = l.Bounds
		names, err := namesOf(int(l.Root.Fd()))
		if err != nil {
			return pathError("read directory", "/", err)
		}
		for _, name := range names {
			if err := a.add(int(l.Root.Fd()), name, name, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteLayer writes what differs from the image; see Layers.WriteLayer. Mount
// points are taken literally: an inventory does not record where links lead.
func (l Live) WriteLayer(ctx context.Context, w io.Writer, mountPoints []string) error {
	stubs := map[string]bool{}
	for _, point := range mountPoints {
		addPath(stubs, point)
	}
	return writeTar(ctx, w, func(a *appender) error {
		return l.walkChanges(ctx, changeReporter{visit: a.addChange, stubs: stubs}, true)
	})
}

func namesOf(fd int) ([]string, error) {
	directory, err := openNames(fd)
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	names, err := directory.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (l Live) walkChanges(ctx context.Context, reporter changeReporter, touched bool) error {
	w := &liveWalk{ctx: ctx, live: l, touched: touched, changeReporter: reporter}
	return w.directory(int(l.Root.Fd()), 0, "/", 0)
}

type liveWalk struct {
	changeReporter
	ctx     context.Context
	live    Live
	touched bool
}

// directory compares an open directory with the inventory's.
func (w *liveWalk) directory(fd int, before int32, name string, depth int) error {
	leave, err := levels.Enter(name, depth, 2)
	if err != nil {
		return err
	}
	defer leave()
	directory, err := openNames(fd)
	if err != nil {
		return pathError("read directory", name, err)
	}
	defer directory.Close()
	list := w.live.Before.list(before)
	seen := make([]bool, len(list))
	for last := false; !last; {
		names, err := someNames(directory)
		if err != nil {
			return pathError("read directory", name, err)
		}
		for _, base := range names {
			if at := w.live.Before.find(list, base); at >= 0 {
				seen[at] = true
			}
		}
		if last = len(names) < namesAtOnce; last {
			names = append(names, w.missing(list, seen)...)
			slices.Sort(names)
		}
		for _, base := range names {
			var was *item
			if at := w.live.Before.find(list, base); at >= 0 {
				was = &list[at]
			}
			if err := w.child(fd, was, base, path.Join(name, base), depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// missing returns the names that no longer exist.
func (w *liveWalk) missing(list []item, seen []bool) []string {
	var names []string
	for at := range list {
		if !seen[at] {
			names = append(names, w.live.Before.name(&list[at]))
		}
	}
	return names
}

func (w *liveWalk) child(parent int, was *item, base, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if w.live.Bounds.Mounts[name] || w.live.Bounds.Hidden[name] || slices.Contains(givenFiles, name) {
		return nil
	}
	var now unix.Stat_t
	err := unix.Fstatat(parent, base, &now, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		if was == nil {
			return nil // it came and went
		}
		return w.report(Deleted, name, -1, nil)
	}
	if err != nil {
		return pathError("lstat", name, err)
	}
	if now.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.childDirectory(parent, was, base, name, &now, depth)
	}
	if was != nil && was.is(&now) {
		return nil // true of most files; the others are opened
	}
	return w.childFile(parent, was, base, name)
}

func (w *liveWalk) childFile(parent int, was *item, base, name string) error {
	var now unix.Stat_t
	fd, err := openEntry(parent, base, name, &now)
	if errors.Is(err, ErrNotFound) {
		return nil // it vanished
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if kind := w.compare(name, was, fd, &now); kind != 0 {
		return w.report(kind, name, fd, &now)
	}
	return nil
}

func (w *liveWalk) childDirectory(parent int, was *item, base, name string, now *unix.Stat_t, depth int) error {
	kind := w.compare(name, was, -1, now)
	leave, err := w.enter(kind, name, now)
	if err != nil {
		return err
	}
	defer leave()
	inside, err := openDirectoryAt(parent, base)
	if isGone(err) || errors.Is(err, unix.EACCES) {
		return nil // as in the inventory
	}
	if err != nil {
		return pathError("open", name, err)
	}
	defer unix.Close(inside)
	before := int32(-1)
	if was != nil {
		before = was.directory
	}
	return w.directory(inside, before, name, depth+1)
}

// is reports whether a file is completely unchanged.
func (it *item) is(now *unix.Stat_t) bool {
	return it.changed == now.Ctim.Nano() && it.mode == now.Mode && it.seconds == int64(now.Mtim.Sec) && it.nanos == int32(now.Mtim.Nsec) &&
		(it.mode&unix.S_IFMT != unix.S_IFREG || it.size == now.Size)
}

// compare returns how a file differs from what it was; 0: not at all. fd is the
// file, opened with O_PATH, unless it is a directory.
func (w *liveWalk) compare(name string, was *item, fd int, now *unix.Stat_t) ChangeKind {
	if was == nil {
		return w.added(name, now)
	}
	switch kind := now.Mode & unix.S_IFMT; {
	case was.mode != now.Mode, was.uid != now.Uid, was.gid != now.Gid:
		return Modified
	case kind == unix.S_IFDIR:
		return 0
	case kind == unix.S_IFCHR, kind == unix.S_IFBLK:
		if was.size != int64(now.Rdev) {
			return Modified
		}
	case was.size != now.Size:
		return Modified
	}
	if !sameTime(unix.Timespec{Sec: was.seconds, Nsec: int64(was.nanos)}, now.Mtim) {
		return Modified
	}
	if was.changed == now.Ctim.Nano() {
		return 0
	}
	// Something has changed; the inventory does not record capabilities.
	if w.touched || now.Mode&unix.S_IFMT == unix.S_IFREG && capabilityOf(fd) != nil {
		return Modified
	}
	return 0
}

// hides reports whether a tar entry is hidden.
func (b Bounds) hides(entry string) bool { return holds(b.Hidden, entry) }

// mounted reports whether a tar entry is a mount point.
func (b Bounds) mounted(entry string) bool { return holds(b.Mounts, entry) }

func holds(paths map[string]bool, entry string) bool {
	return len(paths) > 0 && paths["/"+strings.TrimPrefix(entry, "/")]
}
