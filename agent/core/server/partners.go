package server

import (
	"context"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Joined is a Container that can share a network with others without sharing a
// network interface.
type Joined interface {
	Partners(context.Context, *agentv1.PartnersRequest) (*agentv1.PartnersResponse, error)
	// Listeners tells where the container's processes listen, first and whenever
	// that has changed, until ctx ends or tell fails; the error says which.
	Listeners(ctx context.Context, tell func(*agentv1.ListenerTable) error) error
}

// Partners tells the container with whom it shares a network.
func (s *service) Partners(ctx context.Context, request *connect.Request[agentv1.PartnersRequest]) (*connect.Response[agentv1.PartnersResponse], error) {
	return unary(ctx, s, request, func(c Container, partners *agentv1.PartnersRequest) (*agentv1.PartnersResponse, error) {
		joined, ok := c.(Joined)
		if !ok {
			return nil, Unimplemented{"this agent"}.cannot("Partners")
		}
		return joined.Partners(ctx, partners)
	})
}

// Listeners sends where the container's processes listen.
func (s *service) Listeners(ctx context.Context, request *connect.Request[agentv1.ListenersRequest], stream *connect.ServerStream[agentv1.ListenersResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	joined, ok := container.(Joined)
	if !ok {
		return Unimplemented{"this agent"}.cannot("Listeners")
	}
	out := newSender(stream.Send, func() *agentv1.ListenersResponse {
		return &agentv1.ListenersResponse{Message: &agentv1.ListenersResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	return wireError(joined.Listeners(ctx, func(table *agentv1.ListenerTable) error {
		return out.Send(&agentv1.ListenersResponse{Message: &agentv1.ListenersResponse_Table{Table: table}})
	}))
}
