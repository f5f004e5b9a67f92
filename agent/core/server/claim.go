package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Claimable is a Container that may have been prepared for a container that was
// not known yet.
type Claimable interface {
	Claim(context.Context, *agentv1.ClaimRequest) (*agentv1.ClaimResponse, error)
}

// Claim assigns a prepared agent to a container.
func (s *service) Claim(ctx context.Context, request *connect.Request[agentv1.ClaimRequest]) (*connect.Response[agentv1.ClaimResponse], error) {
	return unary(ctx, s, request, func(c Container, claim *agentv1.ClaimRequest) (*agentv1.ClaimResponse, error) {
		claimable, ok := c.(Claimable)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Claim")
		}
		return claimable.Claim(ctx, claim)
	})
}
