package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Named is a Container with a DNS resolver for its processes.
type Named interface {
	Names(context.Context, *agentv1.NamesRequest) error
}

// Names configures the container's resolver.
func (s *service) Names(ctx context.Context, request *connect.Request[agentv1.NamesRequest]) (*connect.Response[agentv1.NamesResponse], error) {
	return unary(ctx, s, request, func(c Container, names *agentv1.NamesRequest) (*agentv1.NamesResponse, error) {
		named, ok := c.(Named)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Names")
		}
		return &agentv1.NamesResponse{}, named.Names(ctx, names)
	})
}
