package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/mounts"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Create makes a container's directories and fills its new volumes from the
// image. It may be repeated. NOT_FOUND: a layer is not unpacked.
func (c *Containers) Create(ctx context.Context, request *hostv1.CreateContainerRequest) error {
	paths, unlock, err := c.lock(ctx, request.ContainerId)
	if err != nil {
		return err
	}
	defer unlock()
	stack, err := c.layers.Stack(request.LayerDiffIds)
	if err != nil {
		return err
	}
	if exists, err := readJSON(rootRecordPath(paths), &rootRecord{}); err != nil || exists {
		return err
	}
	_, err = os.Lstat(paths.Dir)
	fresh := errors.Is(err, os.ErrNotExist)
	if err := c.createFiles(ctx, paths, stack, request); err != nil {
		err = fmt.Errorf("create container: %w", err)
		if fresh {
			err = errors.Join(err, c.trash.Discard(paths.Dir))
		}
		return err
	}
	return nil
}

func (c *Containers) createFiles(ctx context.Context, paths shimspec.ContainerPaths, stack layers.Stack, request *hostv1.CreateContainerRequest) error {
	if err := makeDirectories(paths); err != nil {
		return err
	}
	faultpoint.Reached("host.create.directories")
	if err := takeRootAttributes(paths.Upper(), stack.RootSource); err != nil {
		return err
	}
	// By this file scripts and libraries tell that they are in a container of Docker's.
	if err := os.WriteFile(filepath.Join(paths.Upper(), ".dockerenv"), nil, 0o755); err != nil {
		return err
	}
	if err := (archive.Layers{Upper: paths.Upper(), Lower: stack.Lower}).GiveMountTable(); err != nil {
		return err
	}
	for _, m := range request.Mounts {
		if len(m.LayerDiffIds) > 0 {
			continue
		}
		// What is not there yet is told at the launch.
		if err := c.volumes.CheckSource(m.Source); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := c.seedVolumes(ctx, paths, stack, request.VolumeSeeds); err != nil {
		return err
	}
	// Last: a container with this record is whole.
	faultpoint.Reached("host.create.seeded")
	return writeDurableJSON(rootRecordPath(paths), rootRecord{
		Version: rootRecordVersion, Layers: request.LayerDiffIds, Mounts: mountsOf(request),
	})
}

func mountsOf(request *hostv1.CreateContainerRequest) []mount {
	var found []mount
	for _, m := range request.Mounts {
		found = append(found, mount{m.Source, m.Destination, m.ReadOnly, m.LayerDiffIds, m.Subpath})
	}
	return found
}

func makeDirectories(paths shimspec.ContainerPaths) error {
	for dir, mode := range map[string]os.FileMode{
		paths.Dir: 0o700, paths.Upper(): 0o755, paths.Work(): 0o700, paths.Merged(): 0o700,
		paths.Log(): 0o700, paths.Files(): 0o711, paths.Bundle(): 0o700,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	return os.Chmod(paths.Upper(), 0o755) // whatever our umask
}

// takeRootAttributes: the container's root directory has the upper layer's owner
// and mode, so that takes the image's.
func takeRootAttributes(upper, source string) error {
	if source == "" {
		return nil
	}
	var stat unix.Stat_t
	if err := unix.Lstat(source, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: source, Err: err}
	}
	if err := os.Chown(upper, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	return unix.Chmod(upper, stat.Mode&0o7777)
}

// imagePath is where the image alone is mounted while volumes are filled.
func imagePath(paths shimspec.ContainerPaths) string { return filepath.Join(paths.Dir, "image") }

func (c *Containers) seedVolumes(ctx context.Context, paths shimspec.ContainerPaths, stack layers.Stack, seeds []*hostv1.VolumeSeed) error {
	if len(seeds) == 0 {
		return nil
	}
	image := imagePath(paths)
	if err := os.MkdirAll(image, 0o700); err != nil {
		return err
	}
	defer os.Remove(image)
	if err := (mounts.Overlay{Lower: stack.Lower}).Mount(image); err != nil {
		return err
	}
	defer mounts.Unmount(image)
	faultpoint.Reached("host.create.image-mounted")
	root, err := confined.Open(image)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, seed := range seeds {
		if err := c.seedVolume(ctx, root, seed); err != nil {
			return fmt.Errorf("fill volume from %s: %w", seed.Path, err)
		}
	}
	return nil
}

func (c *Containers) seedVolume(ctx context.Context, image *confined.Root, seed *hostv1.VolumeSeed) error {
	unlock, err := c.seeding.Lock(ctx, seed.VolumePath)
	if err != nil {
		return err
	}
	defer unlock()
	return c.volumes.Seed(ctx, image, seed.Path, seed.VolumePath)
}
