package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/filelock"
	"github.com/sockerless/sockerless/agent/core/removal"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/machine"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Release kills the container's processes and removes everything but its files.
// It may be repeated; an unknown container is not an error.
func (c *Containers) Release(ctx context.Context, id string) error {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return c.releaseUnlessDone(ctx, id, paths)
}

// ReleaseUnlessKept is Release, unless the shim waits for another launch.
func (c *Containers) ReleaseUnlessKept(ctx context.Context, id string) (kept bool, err error) {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return false, err
	}
	defer unlock()
	if last, err := readLaunched(paths); err != nil || last.isKept() {
		return err == nil, err
	}
	return false, c.releaseUnlessDone(ctx, id, paths)
}

func (c *Containers) releaseUnlessDone(ctx context.Context, id string, paths shimspec.ContainerPaths) error {
	if _, err := os.Lstat(paths.Run); errors.Is(err, os.ErrNotExist) {
		return nil // Launch creates this directory first, release removes it last
	}
	last, err := readLaunched(paths)
	if err != nil {
		return err
	}
	return c.release(ctx, id, paths, last, noNextGeneration)
}

// Remove is Release, after which the container's files are gone. They are deleted
// in the background.
func (c *Containers) Remove(ctx context.Context, id string) error {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.releaseUnlessDone(ctx, id, paths); err != nil {
		return err
	}
	if err := c.closeView(id); err != nil {
		return err
	}
	faultpoint.Reached("host.remove.released")
	files, _ := lockFiles(ctx, paths, archiveLimit) // those still read are removed all the same
	defer files.Close()
	if err := mounts.Unmount(paths.Merged()); err != nil {
		return err
	}
	return c.trash.Discard(paths.Dir)
}

// archiveLimit bounds how long a removal waits for archives of a container that has
// ended. They are cut then.
const archiveLimit = 10 * time.Second

// lockFiles waits, for at most limit, until no shim reads the container's files. Until
// what it returns is closed none begins to.
func lockFiles(ctx context.Context, paths shimspec.ContainerPaths, limit time.Duration) (*os.File, error) {
	files, err := os.Open(paths.Dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return files, filelock.Lock(ctx, files)
}

// unmountRoot unmounts the container's overlay, unless its files are in use: a second
// mount of them would be undefined.
func (c *Containers) unmountRoot(id string, paths shimspec.ContainerPaths) error {
	files, err := lockFiles(context.Background(), paths, 0)
	defer files.Close()
	if c.viewed(id) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return mounts.Unmount(paths.Merged())
}

type successor bool

const (
	noNextGeneration successor = false
	// nextGeneration: the container is launched again. It gets the same mount,
	// and the last shim, whose process has ended, may keep sending recorded
	// output to slow clients.
	nextGeneration successor = true
)

// release continues after failed steps, and keeps the run directory if one
// failed, so that a later release knows that it is needed.
func (c *Containers) release(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched, next successor) error {
	deleteNetwork := func() error {
		return c.network.Delete(id, last.networkGeneration(), c.layout.NetworkNamespace(id))
	}
	var failures []error
	if last.exited() { // the kernel mostly waits: run both at once
		deleted := make(chan error, 1)
		go func() { deleted <- deleteNetwork() }()
		failures = append(failures, c.stop(ctx, id, paths, last, next), <-deleted)
	} else {
		failures = append(failures, c.stop(ctx, id, paths, last, next), deleteNetwork())
	}
	faultpoint.Reached("host.release.stopped")
	if next == noNextGeneration {
		failures = append(failures, c.unmountRoot(id, paths), c.volumes.Release(ctx, id))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("release container: %w", err)
	}
	faultpoint.Reached("host.release.unmounted")
	return removeRun(paths)
}

// removeRun removes a run directory and its mounts. Containers that share its
// /dev/shm have their own mounts.
func removeRun(paths shimspec.ContainerPaths) error {
	if err := errors.Join(mounts.Unmount(paths.SharedMemory()), mounts.Unmount(paths.Secrets()), unmountImages(paths)); err != nil {
		return err
	}
	return removal.Path(paths.Run)
}

// stop ends the container's processes, its shim and the runtime's record.
func (c *Containers) stop(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched, next successor) error {
	if err := c.endShim(ctx, id, paths, last, next); err != nil {
		return fmt.Errorf("end the shim: %w", err)
	}
	if !c.knownToRuntime(id) {
		return removeCgroups(ctx, paths)
	}
	runtime, err := c.runtime(ctx)
	if err != nil {
		return err
	}
	if err := runtime.Delete(ctx, id); err != nil {
		return err
	}
	return removeCgroups(ctx, paths)
}

// endShim ends the shim, and then any commands that could still create the
// container.
func (c *Containers) endShim(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched, next successor) error {
	shims, err := findShims(ctx, paths, last)
	if err != nil {
		return err
	}
	defer closeAll(shims)
	// A shim that was never ready has no clients to drain, and may be creating
	// what is deleted next.
	if last.ready.Generation == 0 {
		for _, shim := range shims {
			if err := shim.end(ctx, unix.SIGKILL); err != nil {
				return err
			}
		}
		return endCommands(ctx, c.layout.RuntimeRoot(), id)
	}
	if c.knownToRuntime(id) && !last.exited() {
		runtime, err := c.runtime(ctx)
		if err != nil {
			return err
		}
		if err := runtime.Kill(ctx, id); err != nil {
			return err
		}
	}
	if last.spec.Keep && !last.exited() {
		// The runtime does not know main processes that the shim created.
		if err := removeCgroups(ctx, paths); err != nil {
			return err
		}
	}
	for _, shim := range shims {
		if last.exited() && next == nextGeneration {
			err = shim.requestRelease(paths.AgentSocket())
		} else {
			err = shim.release(ctx, paths.AgentSocket())
		}
		if err != nil {
			return err
		}
	}
	if last.exited() || isRecorded(paths, last) {
		return nil
	}
	return endCommands(ctx, c.layout.RuntimeRoot(), id) // those of a shim that was killed at work
}

// isRecorded reports whether the last launch's exit is recorded.
func isRecorded(paths shimspec.ContainerPaths, last *launched) bool {
	var record shimspec.ExitRecord
	_, err := jsonfile.Read(paths.ExitRecord(), &record)
	return err == nil && record.Generation == last.spec.Generation
}

// removeCgroups removes cgroups left by a runtime that was killed at work.
func removeCgroups(ctx context.Context, paths shimspec.ContainerPaths) error {
	var config struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	// An incomplete configuration has never been used. Only a cgroup named after
	// the container is surely its own.
	if _, err := jsonfile.Read(paths.Config(), &config); err != nil || !strings.HasSuffix(config.Linux.CgroupsPath, filepath.Base(paths.Dir)) {
		return nil
	}
	return machine.RemoveCgroups(ctx, config.Linux.CgroupsPath)
}

func (c *Containers) knownToRuntime(id string) bool {
	return ociruntime.Runtime{Root: c.layout.RuntimeRoot()}.Knows(id)
}
