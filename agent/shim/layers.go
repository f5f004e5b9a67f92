package shim

import (
	"context"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/server"
)

var _ server.Diffable = (*agent)(nil)

// FileSystem is built from the layers with which the container was launched.
func (a *agent) FileSystem(ctx context.Context) (server.FileSystem, error) {
	if err := a.holdFiles(ctx); err != nil {
		return nil, err
	}
	spec := a.container.current.Load().spec
	return archive.Layers{Upper: spec.Upper, Lower: spec.Lower}, nil
}
