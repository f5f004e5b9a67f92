package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Sealed is a Container that keeps its start's specification for a backend that
// has lost it.
type Sealed interface {
	Reseal(context.Context, *agentv1.ResealRequest) (*agentv1.ResealResponse, error)
}

// Reseal replaces what Describe returns.
func (s *service) Reseal(ctx context.Context, request *connect.Request[agentv1.ResealRequest]) (*connect.Response[agentv1.ResealResponse], error) {
	return unary(ctx, s, request, func(c Container, reseal *agentv1.ResealRequest) (*agentv1.ResealResponse, error) {
		sealed, ok := c.(Sealed)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Reseal")
		}
		return sealed.Reseal(ctx, reseal)
	})
}
