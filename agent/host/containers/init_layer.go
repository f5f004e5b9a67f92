package containers

import (
	"errors"
	"os"
	"slices"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/layers"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// layOver makes the layer of what a container is given over its image, unless it
// is there, and answers the image's layers beneath it.
func layOver(paths shimspec.ContainerPaths, image layers.Stack) (layers.Stack, error) {
	stack, laid, err := withInit(paths, image)
	if err != nil || laid {
		return stack, err
	}
	unfinished := paths.Init() + ".new"
	if err := confined.RemovePath(unfinished); err != nil {
		return stack, err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return stack, err
	}
	if err := archive.LayOver(unfinished, image.Lower); err != nil {
		return stack, err
	}
	if err := os.Rename(unfinished, paths.Init()); err != nil {
		return stack, err
	}
	stack, _, err = withInit(paths, image)
	return stack, err
}

// withInit is what a container's overlay stands on. One that an earlier version
// created, and that has not been launched since, has its image alone.
func withInit(paths shimspec.ContainerPaths, image layers.Stack) (stack layers.Stack, laid bool, err error) {
	_, err = os.Lstat(paths.Init())
	if errors.Is(err, os.ErrNotExist) {
		return image, false, nil
	}
	if err != nil {
		return image, false, err
	}
	image.Lower = slices.Insert(slices.Clone(image.Lower), 0, paths.Init())
	return image, true, nil
}

// stackOf is what the overlay of a container that is created stands on.
func (c *Containers) stackOf(paths shimspec.ContainerPaths, diffIDs []string) (layers.Stack, error) {
	image, err := c.layers.Stack(diffIDs)
	if err != nil {
		return image, err
	}
	stack, _, err := withInit(paths, image)
	return stack, err
}
