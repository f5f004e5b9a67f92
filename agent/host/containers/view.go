package containers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

const (
	// mostViewMounts bounds the mounts of all views together, each of which takes the
	// kernel's memory: a container may bind the machine's root, with all that is
	// mounted beneath it, thousands of times. A view takes no more than half of what
	// others have left, for as long as clients read its files.
	mostViewMounts = 50_000
	// leastViewMounts are a view's own, whatever others have.
	leastViewMounts = 64
)

// nestedMounts is where looks at destinations inside other mounts are counted: it
// is not known which file system they lead to.
const nestedMounts = "mounts inside others"

// mostNewViews bounds the mount namespaces that are being made: each begins as a
// copy of all of the machine's mounts.
const mostNewViews = 4

var errTooManyViewMounts = connect.NewError(connect.CodeResourceExhausted,
	errors.New("files of stopped containers that are being read take too many mounts: try again later"))

// views are the stopped containers' files in use, by container ID.
type views struct {
	mu     sync.Mutex
	all    map[string]*view
	mounts int           // of all together
	making chan struct{} // has an element for each namespace that is being made
}

// view shows a stopped container's files: its overlay, mounted where a launch
// would mount it, and with the volumes on top in a mount namespace of the view's
// own, so that a launch finds the bare overlay.
type view struct {
	users int    // guarded by views
	shown *shown // guarded by the container's lock; nil: not mounted
}

// shown is a view's mount namespace.
type shown struct {
	*mounts.Namespace
	writable []string // the sources of mounts that can be written

	mounts int  // guarded by views; counted before they are made
	closed bool // guarded by views; it gets no more mounts
}

var errViewClosed = errors.New("the view is closed")

func newViews() *views {
	return &views{all: map[string]*view{}, making: make(chan struct{}, mostNewViews)}
}

func (v *views) enter(id string) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all[id] == nil {
		v.all[id] = &view{}
	}
	v.all[id].users++
	return v.all[id]
}

func (v *views) leave(id string) (left int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all[id].users--
	return v.all[id].users
}

func (v *views) find(id string) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all[id]
}

// forget drops a view that nobody uses.
func (v *views) forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.all[id] != nil && v.all[id].users == 0 {
		delete(v.all, id)
	}
}

// reserve counts mounts that a view is about to get, unless these are too many.
func (v *views) reserve(of *shown, mounts int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count(of, of.mounts+mounts)
}

// settle counts the mounts that a view has got in place of those reserved. Others
// may have come while it was made.
func (v *views) settle(of *shown) error {
	mounts, err := of.Count()
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count(of, mounts)
}

func (v *views) count(of *shown, mounts int) error {
	if of.closed {
		return errViewClosed
	}
	others := v.mounts - of.mounts
	if mounts > max(of.mounts, leastViewMounts, (mostViewMounts-others)/2) {
		return errTooManyViewMounts
	}
	of.mounts, v.mounts = mounts, others+mounts
	return nil
}

// close unmounts what a view shows. It may be repeated.
func (v *views) close(of *shown) error {
	var err error
	if of.Namespace != nil {
		err = of.Close()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mounts -= of.mounts
	of.mounts, of.closed = 0, true
	return err
}

func (v *views) used(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all[id] != nil && v.all[id].users > 0
}

func (c *Containers) viewed(id string) bool { return c.views.used(id) }

// viewsPath is where the images that views show are mounted while these are made.
func (c *Containers) viewsPath() string { return filepath.Join(c.layout.RunDir, "stored") }

// Files opens the root directory (O_PATH) of a stopped container with its
// volumes, and is told whether they are written. It stays mounted until ctx is
// done. NOT_FOUND: no such container.
// UNAVAILABLE: it runs, so that its shim serves its files. RESOURCE_EXHAUSTED:
// views have too many mounts. DEADLINE_EXCEEDED: a bind's file system does not
// answer.
func (c *Containers) Files(ctx context.Context, id string, writes bool) (*os.File, error) {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	record, err := c.readStored(id, paths)
	if err != nil {
		return nil, err
	}
	v := c.views.enter(id)
	if v.shown == nil {
		err = c.mountView(ctx, id, paths, record, v)
	}
	if err == nil && writes {
		err = c.volumes.AllowWrites(viewHolder(id), v.shown.writable...)
	}
	var root *os.File
	if err == nil {
		root, err = v.shown.Open()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("show the files of container %s: %w", id, err), c.leaveView(id, paths))
	}
	context.AfterFunc(ctx, func() {
		paths, unlock, err := c.lock(context.Background(), id)
		if err == nil {
			defer unlock()
			err = c.leaveView(id, paths)
		}
		if err != nil {
			slog.Error("a container's files stay mounted", "container", id, "error", err)
		}
	})
	return root, nil
}

// readStored reads the record of a container whose files no agent of its own serves.
func (c *Containers) readStored(id string, paths shimspec.ContainerPaths) (rootRecord, error) {
	record, err := readRootRecord(paths)
	if err != nil {
		return record, err
	}
	return record, c.requireNoAgent(id, paths)
}

// requireNoAgent refuses a container whose own agent serves its files.
func (c *Containers) requireNoAgent(id string, paths shimspec.ContainerPaths) error {
	if alive, err := answers(paths.AgentSocket()); err != nil || !alive {
		return err // without reading the records of the launch
	}
	last, err := readLaunched(paths)
	if err == nil && last.alive && !last.exited() {
		err = connect.NewError(connect.CodeUnavailable, fmt.Errorf("container %s has an agent of its own", id))
	}
	return err
}

// leaveView removes one user, and with the last one the mounts. The overlay stays
// if a launch has taken it over meanwhile.
func (c *Containers) leaveView(id string, paths shimspec.ContainerPaths) error {
	if c.views.leave(id) > 0 {
		return nil
	}
	failure := c.closeView(id)
	if _, err := os.Lstat(paths.Run); err == nil {
		return failure
	}
	return errors.Join(failure, c.unmountRoot(id, paths))
}

// closeView unmounts the view and its volumes.
func (c *Containers) closeView(id string) error {
	var err error
	if v := c.views.find(id); v != nil && v.shown != nil {
		err = c.views.close(v.shown)
		v.shown = nil
	}
	c.views.forget(id)
	return errors.Join(err, c.volumes.Release(context.Background(), viewHolder(id)))
}

// viewHolder is the view's name as a holder of volumes.
func viewHolder(id string) string { return "view-" + id }

func (c *Containers) mountView(ctx context.Context, id string, paths shimspec.ContainerPaths, record rootRecord, v *view) (err error) {
	stack, err := c.stackToRead(paths, record.Layers)
	if err != nil {
		return err
	}
	if err := c.mountRoot(paths, stack.Lower); err != nil {
		return err
	}
	made := &shown{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.views.close(made))
		}
	}()
	if err := c.views.reserve(made, 1); err != nil {
		return err
	}
	if made.Namespace, err = c.namespaceOf(ctx, paths.Merged()); err != nil {
		return err
	}
	if err := c.showMounts(ctx, made, id, paths, record.Mounts); err != nil {
		return err
	}
	if record.ReadOnly { // only now: mount points had to be created
		if err := setRootReadOnly(made.Namespace); err != nil {
			return err
		}
	}
	v.shown = made
	return nil
}

// showMounts mounts in a view what the container has mounted.
func (c *Containers) showMounts(ctx context.Context, in *shown, id string, paths shimspec.ContainerPaths, all []mount) error {
	if len(all) == 0 {
		return nil
	}
	for _, m := range all {
		if err := c.volumes.HoldToRead(ctx, viewHolder(id), m.Source); err != nil {
			return err
		}
		if !m.ReadOnly {
			in.writable = append(in.writable, m.Source)
		}
	}
	binds, err := c.volumes.CheckBinds() // now that volumes are mounted
	if err != nil {
		return err
	}
	points, err := mounts.MachinePoints()
	if err != nil {
		return err
	}
	bare, err := confined.Open(paths.Merged())
	if err != nil {
		return err
	}
	defer bare.Close()
	making := making{c, in, id, binds, points, bare, map[string]bool{}}
	for _, m := range all {
		isNested, err := making.isNested(m)
		if err == nil {
			show := func(move func(to string) error) error { return making.show(m, isNested, move) } // may outlast the view
			err = c.userPaths.DoAndMove(ctx, m.Source, show)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	return c.views.settle(in)
}

// namespaceOf creates a mount namespace that shows a directory, in its turn.
func (c *Containers) namespaceOf(ctx context.Context, path string) (*mounts.Namespace, error) {
	select {
	case c.views.making <- struct{}{}:
		defer func() { <-c.views.making }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	directory, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	tree, err := mounts.Clone(directory, false)
	if err != nil {
		return nil, err
	}
	return mounts.NewNamespace(tree)
}

func setRootReadOnly(in *mounts.Namespace) error {
	root, err := in.Open()
	if err != nil {
		return err
	}
	defer root.Close()
	return in.Do(func() error { return mounts.SetReadOnly(int(root.Fd())) })
}

// making mounts in a view what a container has mounted.
type making struct {
	*Containers
	in     *shown
	id     string
	binds  *volumes.BindCheck
	points mounts.Points

	bare    *confined.Root  // the container's own files
	covered map[string]bool // the destinations so far, without links
}

// isNested reports whether the way to a mount's destination leads into an earlier
// mount.
func (v *making) isNested(m mount) (isNested bool, err error) {
	destination, err := v.bare.Resolve(m.Destination, func(name string) bool {
		isNested = isNested || v.covered[name]
		return v.covered[name]
	})
	v.covered[destination] = true
	return isNested, err
}

// show mounts one of them. A missing source is skipped.
func (v *making) show(m mount, isNested bool, move func(to string) error) error {
	source, err := v.open(m)
	if errors.Is(err, os.ErrNotExist) && len(m.Layers) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if isNested {
		if err := move(nestedMounts); err != nil {
			return err
		}
	}
	target, err := makeTarget(v.in.Namespace, m.Destination, info.IsDir())
	if err != nil {
		return err
	}
	defer unix.Close(target)
	// Last: a look that is stuck has no mounts.
	tree, err := v.clone(source, m)
	if err != nil {
		return err
	}
	defer tree.Close()
	err = v.in.Do(func() error { return mounts.AttachTo(int(tree.Fd()), target) })
	if errors.Is(err, unix.ENOSPC) { // the kernel's limit of a namespace
		return errTooManyViewMounts
	}
	return err
}

// open opens a mount's source: an image as a detached mount.
func (v *making) open(m mount) (*os.File, error) {
	if len(m.Layers) > 0 {
		return v.cloneImage(v.id, m)
	}
	return v.binds.Open(m.Source)
}

// clone returns a detached mount of an open source, whose mounts it reserves.
func (v *making) clone(source *os.File, m mount) (*os.File, error) {
	if len(m.Layers) > 0 {
		return source, v.views.reserve(v.in, 1)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", source.Fd()))
	if err != nil {
		return nil, err
	}
	if err := v.views.reserve(v.in, v.points.CountInClone(path)); err != nil {
		return nil, err
	}
	return mounts.Clone(source, m.ReadOnly)
}

// makeTarget opens (O_PATH) a mount point in the view, which it creates if it is
// missing. Links of the container are followed, but not out of it.
func makeTarget(in *mounts.Namespace, destination string, isDirectory bool) (int, error) {
	directory, err := in.Open()
	if err != nil {
		return -1, err
	}
	defer directory.Close()
	root, err := confined.Open(fmt.Sprintf("/proc/self/fd/%d", directory.Fd()))
	if err != nil {
		return -1, err
	}
	defer root.Close()
	if isDirectory {
		return root.MakeDirectories(destination, nil)
	}
	return root.MakeFile(destination)
}

// LogDir is the log directory of a stopped container. Errors as in Files.
func (c *Containers) LogDir(id string) (string, error) {
	paths, err := c.paths(id)
	if err != nil {
		return "", err
	}
	return paths.Log(), errors.Join(requireLog(paths), c.requireNoAgent(id, paths))
}

// requireLog refuses a missing container. The log does not need the root record,
// which may be damaged.
func requireLog(paths shimspec.ContainerPaths) error {
	if _, err := os.Lstat(paths.Log()); err == nil {
		return nil
	}
	_, err := readRootRecord(paths)
	return err
}
