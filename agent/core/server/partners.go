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
	// Listeners calls send with the addresses where the container's processes
	// listen, at once and after each change, until ctx ends or send fails; the
	// error is the cause.
	Listeners(ctx context.Context, send func(*agentv1.ListenerTable) error) error
}

// Partners lists for the container those with which it shares a network.
func (s *service) Partners(ctx context.Context, request *connect.Request[agentv1.PartnersRequest]) (*connect.Response[agentv1.PartnersResponse], error) {
	return unaryOf(ctx, s, request, "Partners", Joined.Partners)
}

// Listeners sends the addresses where the container's processes listen.
func (s *service) Listeners(ctx context.Context, request *connect.Request[agentv1.ListenersRequest], stream *connect.ServerStream[agentv1.ListenersResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	joined, err := optional[Joined](container, "Listeners")
	if err != nil {
		return err
	}
	out := newSender(stream.Send, func() *agentv1.ListenersResponse {
		return &agentv1.ListenersResponse{Message: &agentv1.ListenersResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	return wireError(joined.Listeners(ctx, func(table *agentv1.ListenerTable) error {
		return out.Send(&agentv1.ListenersResponse{Message: &agentv1.ListenersResponse_Table{Table: table}})
	}))
}
