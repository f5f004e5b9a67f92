package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Provable is a Container whose agent can prove which task it runs in.
type Provable interface {
	Prove(context.Context, *agentv1.ProveRequest) (*agentv1.ProveResponse, error)
}

// Prove returns a proof of the agent's task.
func (s *service) Prove(ctx context.Context, request *connect.Request[agentv1.ProveRequest]) (*connect.Response[agentv1.ProveResponse], error) {
	return unary(ctx, s, request, func(c Container, asked *agentv1.ProveRequest) (*agentv1.ProveResponse, error) {
		provable, ok := c.(Provable)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Prove")
		}
		return provable.Prove(ctx, asked)
	})
}
