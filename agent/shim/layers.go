package shim

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/server"
)

var _ server.Layered = (*agent)(nil)

// Layers are those that the container was launched with.
func (a *agent) Layers(context.Context) (archive.Layers, error) {
	spec := a.container.spec
	if spec.Upper == "" {
		return archive.Layers{}, connect.NewError(connect.CodeUnimplemented,
			errors.New("the container was started by an earlier version, which did not tell its layers: restart it"))
	}
	return archive.Layers{Upper: spec.Upper, Lower: spec.Lower}, nil
}
