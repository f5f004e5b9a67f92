package containers

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/layers"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// stackOf is the lower stack of a created container's overlay. Some containers
// created by an earlier version have their own topmost layer.
func (c *Containers) stackOf(paths shimspec.ContainerPaths, diffIDs []string) (layers.Stack, error) {
	_, err := os.Lstat(paths.Init())
	if errors.Is(err, os.ErrNotExist) {
		return c.layers.ContainerStack(diffIDs)
	}
	if err != nil {
		return layers.Stack{}, err
	}
	stack, err := c.layers.Stack(diffIDs)
	stack.Lower = slices.Insert(stack.Lower, 0, paths.Init())
	return stack, err
}

// stackToRead is stackOf for a stopped container: it is the image alone if the
// topmost layer, which a crash of the machine may have lost, cannot be remade
// because the disk refuses.
func (c *Containers) stackToRead(paths shimspec.ContainerPaths, diffIDs []string) (layers.Stack, error) {
	stack, err := c.stackOf(paths, diffIDs)
	if err == nil || connect.CodeOf(err) == connect.CodeNotFound {
		return stack, err
	}
	slog.Warn("a container is read without what it was given", "container", filepath.Base(paths.Dir), "error", err)
	return c.layers.Stack(diffIDs)
}
