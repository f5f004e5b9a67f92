package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
)

// ChangeKind is what happened to a path since the image.
type ChangeKind int

// The values are those of the contract.
const (
	Modified ChangeKind = iota + 1
	Added
	Deleted
)

// Change is a path that differs from the image.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

// Changes reports the differences from the image as Docker sees them: files with
// another size, mode, owner, capabilities or modification time, and directories
// with another mode or owner, or with a difference in them. A directory comes
// before its content, the names of one directory in order (see namesAtOnce).
func (l Layers) Changes(ctx context.Context, visit func(Change) error) error {
	visitChange := func(change Change, _ int, _ *unix.Stat_t) error { return visit(change) }
	return l.walkChanges(ctx, changeReporter{visit: visitChange}, false)
}

// changed is called with each change and the file as it now is, opened with
// O_PATH where it is no directory.
type changed func(change Change, fd int, st *unix.Stat_t) error

// walkChanges finds the differences from the image. With touched, a file that the
// container has written counts even if it looks the same as the image's.
func (l Layers) walkChanges(ctx context.Context, reporter changeReporter, touched bool) error {
	upper, err := openLevel([]string{l.Upper})
	if err != nil {
		return errors.Join(err, l.stillThere())
	}
	defer upper.close()
	lower, err := openLevel(l.Lower)
	if err != nil {
		return err
	}
	defer lower.close()
	w := &changeWalk{ctx: ctx, touched: touched, changeReporter: reporter}
	if err := w.directory(upper[0], lower, "/", 0); err != nil {
		return err
	}
	return l.stillThere()
}

type changeWalk struct {
	changeReporter
	ctx     context.Context
	touched bool
}

// changeReporter reports changes, and the directories that lead to them.
type changeReporter struct {
	visit changed
	// stubs are paths that were created as mount points, and their parents.
	stubs map[string]bool
	// unchanged are the parent directories that do not differ themselves; they
	// are reported once something in them differs.
	unchanged []ancestor
}

type ancestor struct {
	path string
	stat unix.Stat_t
}

func (r *changeReporter) report(kind ChangeKind, name string, fd int, st *unix.Stat_t) error {
	for _, above := range r.unchanged {
		if err := r.visit(Change{above.path, Modified}, -1, &above.stat); err != nil {
			return err
		}
	}
	r.unchanged = r.unchanged[:0]
	return r.visit(Change{name, kind}, fd, st)
}

// added reports a file that the image does not have. A stub directory is reported
// once something in it is.
func (r *changeReporter) added(name string, now *unix.Stat_t) ChangeKind {
	kind := now.Mode & unix.S_IFMT
	if r.stubs[name] && (kind == unix.S_IFDIR || kind == unix.S_IFREG && now.Size == 0) {
		return 0
	}
	return addedUnlessOurs(name, now)
}

// enter goes into a directory, and reports it at once if it differs itself.
func (r *changeReporter) enter(kind ChangeKind, name string, now *unix.Stat_t) (leave func(), err error) {
	above := len(r.unchanged)
	if kind != 0 {
		return func() {}, r.report(kind, name, -1, now)
	}
	r.unchanged = append(r.unchanged, ancestor{name, *now})
	// It has left the list if it was reported meanwhile.
	return func() { r.unchanged = r.unchanged[:min(above, len(r.unchanged))] }, nil
}

func (w *changeWalk) directory(upper int, lower level, name string, depth int) error {
	leave, err := levels.Enter(name, depth, len(lower)+3)
	if err != nil {
		return err
	}
	defer leave()
	hidden, err := hiddenNames(upper, lower)
	if err != nil {
		return err
	}
	directory, err := openNames(upper)
	if err != nil {
		return pathError("read directory", name, err)
	}
	defer directory.Close()
	for first := true; ; first = false {
		names, err := someNames(directory)
		if err != nil {
			return pathError("read directory", name, err)
		}
		if len(names) == 0 && (!first || len(hidden) == 0) {
			return nil
		}
		if first {
			names = append(names, hidden...)
			slices.Sort(names)
		}
		for _, child := range names {
			if err := w.child(upper, lower, child, path.Join(name, child), depth); err != nil {
				return err
			}
		}
	}
}

// hiddenNames are the names that an opaque directory hides.
func hiddenNames(upper int, lower level) ([]string, error) {
	if !isOpaque(upper) {
		return nil, nil
	}
	var hidden []string
	err := lower.eachName(func(_ int, name string, _ *unix.Stat_t) error {
		var st unix.Stat_t
		if errors.Is(unix.Fstatat(upper, name, &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT) {
			hidden = append(hidden, name)
		}
		return nil
	})
	return hidden, err
}

func (w *changeWalk) child(upper int, lower level, base, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	var before unix.Stat_t
	layer, err := lower.find(base, &before)
	if err != nil {
		return err
	}
	var now unix.Stat_t
	fd, err := openEntry(upper, base, name, &now)
	if errors.Is(err, ErrNotFound) {
		if layer >= 0 && isOpaque(upper) {
			return w.report(Deleted, name, -1, nil)
		}
		return nil // it vanished
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if isWhiteout(&now) {
		if layer < 0 {
			return nil
		}
		return w.report(Deleted, name, -1, nil)
	}
	kind := w.compare(name, layer, lower, base, fd, &before, &now)
	if now.Mode&unix.S_IFMT != unix.S_IFDIR {
		if kind == 0 {
			return nil
		}
		return w.report(kind, name, fd, &now)
	}
	return w.childDirectory(upper, lower, base, name, kind, &now, depth)
}

func (w *changeWalk) childDirectory(upper int, lower level, base, name string, kind ChangeKind, now *unix.Stat_t, depth int) error {
	leave, err := w.enter(kind, name, now)
	if err != nil {
		return err
	}
	defer leave()
	inside, err := level{upper}.descend(base)
	if err != nil || len(inside) == 0 {
		return err
	}
	defer inside.close()
	beneath, err := lower.descend(base)
	if err != nil {
		return err
	}
	defer beneath.close()
	return w.directory(inside[0], beneath, name, depth+1)
}

// compare returns how a file differs from the image's; 0: not at all.
func (w *changeWalk) compare(name string, layer int, lower level, base string, fd int, before, now *unix.Stat_t) ChangeKind {
	if isGiven(name, fd, now) {
		return 0
	}
	if layer < 0 {
		return w.added(name, now)
	}
	isDirectory := now.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case before.Mode != now.Mode, before.Uid != now.Uid, before.Gid != now.Gid, before.Rdev != now.Rdev:
		return Modified
	case isDirectory:
		return 0
	case w.touched, before.Size != now.Size, !sameTime(before.Mtim, now.Mtim):
		return Modified
	case now.Mode&unix.S_IFMT == unix.S_IFREG && !bytes.Equal(capabilityOf(fd), lower.capabilityOf(layer, base)):
		return Modified
	}
	return 0
}

// sameTime ignores fractions of a second where either has none: a file that came
// through an archive has lost them.
func sameTime(a, b unix.Timespec) bool {
	return a.Sec == b.Sec && (a.Nsec == b.Nsec || a.Nsec == 0 || b.Nsec == 0)
}

func (l level) capabilityOf(layer int, base string) []byte {
	fd, err := unix.Openat(l[layer], base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return capabilityOf(fd)
}

// capabilityOf reads the capabilities of a file opened with O_PATH.
func capabilityOf(fd int) []byte {
	var value [64]byte
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "security.capability", value[:])
	if err != nil {
		return nil
	}
	return value[:n]
}
