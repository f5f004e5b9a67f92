package containers

import (
	"log/slog"
	"path/filepath"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/layers"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// stackToRead is the lower stack of a stopped container: the image alone if the
// topmost layer, which a crash of the machine may have lost, cannot be remade
// because the disk refuses.
func (c *Containers) stackToRead(paths shimspec.ContainerPaths, diffIDs []string) (layers.Stack, error) {
	stack, err := c.layers.ContainerStack(diffIDs)
	if err == nil || connect.CodeOf(err) == connect.CodeNotFound {
		return stack, err
	}
	slog.Warn("a container is read without what it was given", "container", filepath.Base(paths.Dir), "error", err)
	return c.layers.Stack(diffIDs)
}
