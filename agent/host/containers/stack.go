package containers

import (
	"errors"
	"os"

	"github.com/sockerless/sockerless/agent/host/layers"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// stackOf is what the overlay of a container that is created stands on. Some
// that an earlier version created have the topmost layer to themselves.
func (c *Containers) stackOf(paths shimspec.ContainerPaths, diffIDs []string) (layers.Stack, error) {
	stack, err := c.layers.ContainerStack(diffIDs)
	if err != nil {
		return stack, err
	}
	_, err = os.Lstat(paths.Init())
	switch {
	case err == nil:
		stack.Lower[0] = paths.Init()
	case errors.Is(err, os.ErrNotExist):
		err = nil
	}
	return stack, err
}
