package shim

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/server"
)

var _ server.Diffable = (*agent)(nil)

// FileSystem is built from the layers with which the container was launched.
func (a *agent) FileSystem(context.Context) (server.FileSystem, error) {
	spec := a.container.current.Load().spec
	if spec.Upper == "" {
		return nil, connect.NewError(connect.CodeUnimplemented,
			errors.New("the container was started by an earlier version, which did not tell its layers: restart it"))
	}
	return archive.Layers{Upper: spec.Upper, Lower: spec.Lower}, nil
}
