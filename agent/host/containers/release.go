package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/machine"
	"github.com/sockerless/sockerless/agent/host/mounts"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Release kills what still runs of a container and takes away all but its
// files. It may be repeated; an unknown container is no error.
func (c *Containers) Release(ctx context.Context, id string) error {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return c.releaseUnlessDone(ctx, id, paths)
}

// ReleaseUnlessKept is Release, unless something waits for another launch.
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
		return nil // Launch makes this directory first, release removes it last
	}
	last, err := readLaunched(paths)
	if err != nil {
		return err
	}
	return c.release(ctx, id, paths, last, nothingFollows)
}

// Remove is Release, after which the container's files are gone. Deleting them
// goes on behind the answer.
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
	if err := mounts.Unmount(paths.Merged()); err != nil {
		return err
	}
	faultpoint.Reached("host.remove.released")
	return c.trash.Discard(paths.Dir)
}

type successor bool

const (
	nothingFollows successor = false
	// nextGeneration: the container is launched again. It gets the same mount,
	// and the last shim, whose process has ended, may go on telling slow clients
	// what it has recorded.
	nextGeneration successor = true
)

// release does what can be done of its steps even when one fails, and leaves the
// run directory where one did: so a later release knows that it is needed.
func (c *Containers) release(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched, next successor) error {
	deleteNetwork := func() error {
		return c.network.Delete(id, last.networkGeneration(), c.layout.NetworkNamespace(id))
	}
	var failures []error
	if last.exited() { // the kernel waits most of the time: for both at once
		deleted := make(chan error, 1)
		go func() { deleted <- deleteNetwork() }()
		failures = append(failures, c.stop(ctx, id, paths, last, next), <-deleted)
	} else {
		failures = append(failures, c.stop(ctx, id, paths, last, next), deleteNetwork())
	}
	faultpoint.Reached("host.release.stopped")
	if next == nothingFollows && !c.viewed(id) {
		failures = append(failures, mounts.Unmount(paths.Merged()))
	}
	if next == nothingFollows {
		failures = append(failures, c.volumes.LetGo(ctx, id))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("release container: %w", err)
	}
	faultpoint.Reached("host.release.unmounted")
	return removeRun(paths)
}

// removeRun removes a run directory, and what is mounted there. Containers that
// share its /dev/shm have mounts of their own.
func removeRun(paths shimspec.ContainerPaths) error {
	if err := errors.Join(mounts.Unmount(paths.SharedMemory()), mounts.Unmount(paths.Secrets()), unmountImages(paths)); err != nil {
		return err
	}
	return confined.RemovePath(paths.Run)
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

// endShim ends the shim, and what would make the container after its end.
func (c *Containers) endShim(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched, next successor) error {
	shims, err := findShims(ctx, paths, last)
	if err != nil {
		return err
	}
	defer closeAll(shims)
	// A shim that never got ready has nobody to drain, and may be in the middle
	// of creating what is deleted next.
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
		// The runtime does not know of a main process that the shim has made.
		if err := removeCgroups(ctx, paths); err != nil {
			return err
		}
	}
	for _, shim := range shims {
		if last.exited() && next == nextGeneration {
			err = shim.dismiss(paths.AgentSocket())
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
	return endCommands(ctx, c.layout.RuntimeRoot(), id) // of a shim that was killed at work
}

// isRecorded reports whether the end of what was launched last is on record by now.
func isRecorded(paths shimspec.ContainerPaths, last *launched) bool {
	var record shimspec.ExitRecord
	_, err := jsonfile.Read(paths.ExitRecord(), &record)
	return err == nil && record.Generation == last.spec.Generation
}

// removeCgroups removes what a runtime leaves that was killed at work.
func removeCgroups(ctx context.Context, paths shimspec.ContainerPaths) error {
	var config struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	// A configuration that was not written to its end was not used either. Only
	// what is named after the container is surely its own.
	if _, err := jsonfile.Read(paths.Config(), &config); err != nil || !strings.HasSuffix(config.Linux.CgroupsPath, filepath.Base(paths.Dir)) {
		return nil
	}
	return machine.RemoveCgroups(ctx, config.Linux.CgroupsPath)
}

func (c *Containers) knownToRuntime(id string) bool {
	_, err := os.Lstat(filepath.Join(c.layout.RuntimeRoot(), id))
	return err == nil
}
