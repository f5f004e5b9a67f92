package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Named is a Container that answers its processes' questions for names.
type Named interface {
	Names(context.Context, *agentv1.NamesRequest) error
}

// Names tells the container's resolver what it answers.
func (s *service) Names(ctx context.Context, request *connect.Request[agentv1.NamesRequest]) (*connect.Response[agentv1.NamesResponse], error) {
	return unary(ctx, s, request, func(c Container, names *agentv1.NamesRequest) (*agentv1.NamesResponse, error) {
		named, ok := c.(Named)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Names")
		}
		return &agentv1.NamesResponse{}, named.Names(ctx, names)
	})
}
