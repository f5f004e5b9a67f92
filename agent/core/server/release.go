package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Releasable is a Container whose agent stays after its main process's end until
// it is no longer needed.
type Releasable interface {
	Release(ctx context.Context, generation uint64) error
}

// Release lets the agent leave.
func (s *service) Release(ctx context.Context, request *connect.Request[agentv1.ReleaseRequest]) (*connect.Response[agentv1.ReleaseResponse], error) {
	return unary(ctx, s, request, func(c Container, release *agentv1.ReleaseRequest) (*agentv1.ReleaseResponse, error) {
		releasable, ok := c.(Releasable)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Release")
		}
		return &agentv1.ReleaseResponse{}, releasable.Release(ctx, release.Generation)
	})
}
