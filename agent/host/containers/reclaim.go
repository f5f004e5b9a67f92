package containers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/network"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// mostReclaimed is how many containers are reclaimed at a time: each mostly waits
// for processes and the kernel.
const mostReclaimed = 16

// RequireHere refuses a state directory of which containers run elsewhere: it is a
// copy, was moved, or has had another run directory. Here they would count as ended
// and run twice, and their processes would not be found.
func (c *Containers) RequireHere() error {
	ids, err := c.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		paths := c.layout.Container(id)
		var spec shimspec.Spec
		isHere := func() bool { return spec.AgentSocket == paths.AgentSocket() && spec.ExitRecord == paths.ExitRecord() }
		if whole, err := jsonfile.Read(paths.Spec(), &spec); err != nil || !whole || spec.AgentSocket == "" || isHere() {
			continue // one that cannot be read is reported when it is reclaimed
		}
		if runs, err := answers(spec.AgentSocket); err == nil && runs {
			return fmt.Errorf("container %s runs with the state directory %s and the run directory %s: stop it by a daemon that has these, and then move them",
				id[:12], threeAbove(spec.ExitRecord), threeAbove(spec.AgentSocket))
		}
	}
	return nil
}

func threeAbove(path string) string {
	return filepath.Dir(filepath.Dir(filepath.Dir(path)))
}

// Reclaim removes what killed processes left: launches without a shim, views,
// unused namespaces and links. It runs before any other call, and leaves the rest
// to a successor once ctx is done.
func (c *Containers) Reclaim(ctx context.Context) error {
	if err := c.reclaimViews(); err != nil {
		return err
	}
	ids, err := c.ids()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, id := range ids {
		known[id[:16]] = true
	}
	keep, allKnown, err := c.reclaimContainers(ctx, ids)
	if err != nil {
		return err
	}
	hasRun := func(holder string) bool {
		paths, err := c.paths(holder)
		if err == nil {
			_, err = os.Lstat(paths.Run)
		}
		return err == nil
	}
	var failures []error
	for _, reclaim := range []func() error{
		func() error { return c.reclaimUnknown(known) },
		func() error { return c.volumes.Reclaim(hasRun) },
		func() error {
			if !allKnown {
				slog.Warn("networks are not reclaimed beside a container that may run")
				return nil
			}
			return c.network.Reclaim(keep)
		},
	} {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		failures = append(failures, reclaim())
	}
	return errors.Join(failures...)
}

// errNotKnown means that a container may run.
var errNotKnown = errors.New("it is not known whether the container runs")

// reclaimContainers returns the network namespaces of containers with live shims,
// and releases the others, some at a time. allKnown: these are all that run. Its error
// is that of ctx.
func (c *Containers) reclaimContainers(ctx context.Context, ids []string) (keep []network.Namespace, allKnown bool, err error) {
	found := make([]*network.Namespace, len(ids))
	var unknown atomic.Bool
	var group errgroup.Group
	group.SetLimit(mostReclaimed)
	for index, id := range ids {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			namespace, err := c.reclaimContainer(ctx, id)
			if err != nil {
				// One broken container must not prevent serving the others.
				slog.Error("cannot reclaim", "container", id, "error", err)
			}
			if errors.Is(err, errNotKnown) {
				unknown.Store(true)
			}
			found[index] = namespace
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	for _, namespace := range found {
		if namespace != nil {
			keep = append(keep, *namespace)
		}
	}
	return keep, !unknown.Load(), nil
}

// reclaimContainer returns the network namespace of a container with a live shim,
// and releases any other container.
func (c *Containers) reclaimContainer(ctx context.Context, id string) (*network.Namespace, error) {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	last, err := readLaunched(paths)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotKnown, err)
	}
	if last.alive && last.ready.Generation != 0 {
		return &network.Namespace{
			ContainerID: id, Generation: last.networkGeneration(), Path: c.layout.NetworkNamespace(id),
		}, nil
	}
	if _, err := os.Lstat(paths.Run); err == nil {
		return nil, c.release(ctx, id, paths, last, noNextGeneration)
	}
	var failures []error
	if !last.exited() {
		// Its run directory was lost. Nothing reaches it any more, and its next
		// launch would run it twice.
		failures = append(failures, removeCgroups(ctx, paths))
	}
	return nil, errors.Join(append(failures, c.unmountRoot(id, paths), mounts.Unmount(imagePath(paths)))...)
}

func (c *Containers) reclaimViews() error {
	entries, err := os.ReadDir(c.viewsPath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(c.viewsPath(), entry.Name())
		if err := errors.Join(mounts.Unmount(path), os.Remove(path)); err != nil {
			return fmt.Errorf("reclaim view: %w", err)
		}
	}
	return nil
}

// reclaimUnknown releases running containers without files.
func (c *Containers) reclaimUnknown(known map[string]bool) error {
	entries, err := os.ReadDir(c.layout.RuntimeRoot())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if id := entry.Name(); idPattern().MatchString(id) && !known[id[:16]] {
			if err := c.release(context.Background(), id, c.layout.Container(id), &launched{}, noNextGeneration); err != nil {
				return err
			}
		}
	}
	runs, err := os.ReadDir(filepath.Join(c.layout.RunDir, "c"))
	if err != nil {
		return err
	}
	for _, entry := range runs {
		if !known[entry.Name()] {
			if err := removeRun(shimspec.ContainerPaths{Run: filepath.Join(c.layout.RunDir, "c", entry.Name())}); err != nil {
				return err
			}
		}
	}
	return nil
}
