package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/mounts"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Create creates a container's directories and fills its new volumes from the
// image. It may be repeated. NOT_FOUND: a layer is not unpacked.
// INVALID_ARGUMENT: a bind is refused.
func (c *Containers) Create(ctx context.Context, request *hostv1.CreateContainerRequest) error {
	paths, unlock, err := c.lock(ctx, request.ContainerId)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = os.Lstat(paths.Dir)
	fresh := errors.Is(err, os.ErrNotExist)
	stack, err := c.layers.ContainerStack(request.LayerDiffIds)
	if err != nil {
		return err
	}
	if !fresh {
		if exists, err := jsonfile.Read(rootRecordPath(paths), &rootRecord{}); err != nil || exists {
			return err
		}
	}
	if err := c.refuseBinds(ctx, request.BindSources); err != nil {
		return err
	}
	if err := c.createFiles(ctx, paths, stack, request); err != nil {
		err = fmt.Errorf("create container: %w", err)
		if fresh {
			err = errors.Join(err, c.trash.Discard(paths.Dir))
		}
		return err
	}
	return nil
}

// refuseBinds refuses sources in volumes that must not be bound.
func (c *Containers) refuseBinds(ctx context.Context, sources []string) error {
	if len(sources) == 0 {
		return nil
	}
	binds, err := c.volumes.CheckBinds()
	if err != nil {
		return err
	}
	for _, source := range distinct(sources) {
		if err := c.userPaths.Do(ctx, source, func() error { return binds.Refuse(source) }); err != nil {
			return err
		}
	}
	return nil
}

func distinct[T comparable](all []T) []T {
	seen := map[T]bool{}
	return slices.DeleteFunc(slices.Clone(all), func(each T) bool {
		was := seen[each]
		seen[each] = true
		return was
	})
}

func (c *Containers) createFiles(ctx context.Context, paths shimspec.ContainerPaths, stack layers.Stack, request *hostv1.CreateContainerRequest) error {
	if err := makeDirectories(paths); err != nil {
		return err
	}
	faultpoint.Reached("host.create.directories")
	if err := takeRootAttributes(paths.Upper(), stack.RootSource); err != nil {
		return err
	}
	if err := c.makeWorkingDirectory(paths, stack, request.WorkingDirectory); err != nil {
		return err
	}
	faultpoint.Reached("host.create.working-directory")
	if err := c.seedVolumes(ctx, paths, stack, request.VolumeSeeds); err != nil {
		return err
	}
	// Last: this record marks the container as complete. It is not synced at
	// once, and neither is the backend's own record of the container.
	faultpoint.Reached("host.create.seeded")
	return jsonfile.WriteSoonDurable(rootRecordPath(paths), rootRecordOf(paths, request))
}

func rootRecordOf(paths shimspec.ContainerPaths, request *hostv1.CreateContainerRequest) rootRecord {
	return rootRecord{
		StateDir: stateDirOf(paths), Version: rootRecordVersion, Layers: request.LayerDiffIds, Mounts: mountsOf(request), ReadOnly: request.ReadOnlyRoot,
	}
}

func mountsOf(request *hostv1.CreateContainerRequest) []mount {
	var found []mount
	for _, m := range request.Mounts {
		found = append(found, mount{m.Source, m.Destination, m.ReadOnly, m.LayerDiffIds, m.Subpath, m.SubpathInImage})
	}
	return found
}

func makeDirectories(paths shimspec.ContainerPaths) error {
	for _, directory := range []struct {
		path string
		mode os.FileMode
	}{
		{paths.Dir, 0o700}, {paths.Upper(), 0o755}, {paths.Work(), 0o700}, {paths.Merged(), 0o700},
		{paths.Log(), 0o700}, {paths.Files(), 0o711}, {paths.Bundle(), 0o700},
	} {
		if err := os.Mkdir(directory.path, directory.mode); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return os.Chmod(paths.Upper(), 0o755) // whatever our umask
}

// takeRootAttributes gives the upper layer the owner and mode of the image's root
// directory, since overlayfs takes the root's from the upper layer.
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

// makeWorkingDirectory creates the directory in the container's own layer, unless
// its image has it.
func (c *Containers) makeWorkingDirectory(paths shimspec.ContainerPaths, stack layers.Stack, name string) (err error) {
	if name == "" {
		return nil
	}
	there, err := archive.HasDirectory(stack.Lower, name)
	if err != nil || there {
		return err
	}
	if err := c.mountRoot(paths, stack.Lower); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mounts.Unmount(paths.Merged())) }()
	root, err := confined.Open(paths.Merged())
	if err != nil {
		return err
	}
	defer root.Close()
	directory, err := root.MakeDirectories(name, nil)
	if errors.Is(err, unix.ENOTDIR) {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("Cannot mkdir: %s is not a directory", name)) //nolint:staticcheck // Docker's words
	}
	if err != nil {
		return fmt.Errorf("make the working directory %s: %w", name, err)
	}
	return unix.Close(directory)
}

// imagePath is where the image alone is mounted while volumes are filled from it.
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
		if err := c.seedVolume(ctx, root, seed, filepath.Base(paths.Dir)); err != nil {
			return fmt.Errorf("failed to populate volume: %w", err)
		}
	}
	return nil
}

func (c *Containers) seedVolume(ctx context.Context, image *confined.Root, seed *hostv1.VolumeSeed, holder string) (err error) {
	unlock, err := c.seeding.Lock(ctx, seed.VolumePath)
	if err != nil {
		return err
	}
	defer unlock()
	defer func() { err = errors.Join(err, c.volumes.Release(context.WithoutCancel(ctx), holder)) }()
	return c.volumes.Seed(ctx, image, seed.Path, seed.VolumePath, holder)
}
