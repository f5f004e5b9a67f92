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
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// views counts the users of stopped containers' files. A view is the container's
// overlay, mounted where a launch would mount it, and a bind of it elsewhere with
// the volumes on top, so that a launch finds the bare overlay.
type views struct {
	mu    sync.Mutex
	users map[string]int // by container ID
}

func (v *views) add(id string, change int) (left int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.users == nil {
		v.users = map[string]int{}
	}
	v.users[id] += change
	left = v.users[id]
	if left == 0 {
		delete(v.users, id)
	}
	return left
}

func (c *Containers) viewed(id string) bool { return c.views.add(id, 0) > 0 }

func (c *Containers) viewPath(id string) string {
	return filepath.Join(c.layout.RunDir, "stored", id[:16])
}

// Files opens the root directory (O_PATH) of a stopped container with its
// volumes. It stays mounted until ctx is done. NOT_FOUND: no such container.
// UNAVAILABLE: it runs, so that its shim serves its files.
func (c *Containers) Files(ctx context.Context, id string) (*os.File, error) {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.requireStored(id, paths); err != nil {
		return nil, err
	}
	if c.views.add(id, 1) == 1 {
		err = c.mountView(ctx, id, paths)
	}
	var root *os.File
	if err == nil {
		root, err = os.OpenFile(c.viewPath(id), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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

func (c *Containers) requireStored(id string, paths shimspec.ContainerPaths) error {
	if err := requireRootRecord(id, paths); err != nil {
		return err
	}
	return c.requireNoAgent(id, paths)
}

// requireNoAgent refuses a container whose own agent serves its files.
func (c *Containers) requireNoAgent(id string, paths shimspec.ContainerPaths) error {
	if !answers(paths.AgentSocket()) {
		return nil // without reading the records of the launch
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
	if c.views.add(id, -1) > 0 {
		return nil
	}
	if err := c.closeView(id); err != nil {
		return err
	}
	if _, err := os.Lstat(paths.Run); err == nil {
		return nil
	}
	return mounts.Unmount(paths.Merged())
}

// closeView unmounts the view and its volumes.
func (c *Containers) closeView(id string) error {
	path := c.viewPath(id)
	if err := mounts.Unmount(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return c.volumes.Release(context.Background(), viewHolder(id))
}

// viewHolder is the view's name as a holder of volumes.
func viewHolder(id string) string { return "view-" + id }

func (c *Containers) mountView(ctx context.Context, id string, paths shimspec.ContainerPaths) error {
	var record rootRecord
	if _, err := jsonfile.Read(rootRecordPath(paths), &record); err != nil {
		return err
	}
	stack, err := c.stackToRead(paths, record.Layers)
	if err != nil {
		return err
	}
	if err := c.mountRoot(paths, stack.Lower); err != nil {
		return err
	}
	path := c.viewPath(id)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if err := mounts.Bind(paths.Merged(), path, false); err != nil {
		return err
	}
	root, err := confined.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range record.Mounts {
		if err := c.volumes.Hold(ctx, viewHolder(id), m.Source); err != nil {
			return err
		}
	}
	binds, err := c.volumes.CheckBinds() // now that volumes are mounted
	if err != nil {
		return err
	}
	for _, m := range record.Mounts {
		show := func(root *confined.Root, m mount) error { return bindInside(root, binds, m) }
		if len(m.Layers) > 0 {
			show = func(root *confined.Root, m mount) error { return c.showImage(root, path+".image", m) }
		}
		if err := show(root, m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	if record.ReadOnly { // only now: mount points had to be created
		return mounts.SetReadOnly(path)
	}
	return nil
}

// bindInside binds a mount's source to its destination. Links of the container
// are followed, but not out of it. A missing source is skipped.
func bindInside(root *confined.Root, binds *volumes.BindCheck, m mount) error {
	source, err := binds.Open(m.Source)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	return showInside(root, source, m.Destination, m.ReadOnly)
}

// showInside binds an open file or directory to a path in the view, which it
// creates if it is missing.
func showInside(root *confined.Root, source *os.File, destination string, readOnly bool) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	var target int
	if info.IsDir() {
		target, err = root.MakeDirectories(destination, nil)
	} else {
		target, err = root.MakeFile(destination)
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return mounts.Bind(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), fmt.Sprintf("/proc/self/fd/%d", target), readOnly)
}

// LogDir is the log directory of a stopped container. Errors as in Files.
func (c *Containers) LogDir(id string) (string, error) {
	paths, err := c.paths(id)
	if err != nil {
		return "", err
	}
	return paths.Log(), errors.Join(requireLog(id, paths), c.requireNoAgent(id, paths))
}

// requireLog refuses a missing container. The log does not need the root record,
// which may be damaged.
func requireLog(id string, paths shimspec.ContainerPaths) error {
	if _, err := os.Lstat(paths.Log()); err == nil {
		return nil
	}
	return requireRootRecord(id, paths)
}
