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

// Provable is a Container whose agent can prove which task it runs in.
type Provable interface {
	Prove(context.Context, *agentv1.ProveRequest) (*agentv1.ProveResponse, error)
}

// Sealed is a Container that keeps its start's specification for a backend that
// has lost it.
type Sealed interface {
	Reseal(context.Context, *agentv1.ResealRequest) (*agentv1.ResealResponse, error)
}

// Releasable is a Container whose agent stays after its main process's end until
// it is no longer needed.
type Releasable interface {
	Release(ctx context.Context, generation uint64) error
}

// Named is a Container with a DNS resolver for its processes.
type Named interface {
	Names(context.Context, *agentv1.NamesRequest) error
}

// optional returns the container as a C. UNIMPLEMENTED: it is none.
func optional[C any](container Container, call string) (C, error) {
	able, ok := container.(C)
	if !ok {
		return able, Unimplemented{"this agent"}.cannot(call)
	}
	return able, nil
}

// unaryOf runs an optional call.
func unaryOf[C, Req, Res any](ctx context.Context, s *service, request *connect.Request[Req], name string, call func(C, context.Context, *Req) (*Res, error)) (*connect.Response[Res], error) {
	return unary(ctx, s, request, func(container Container, message *Req) (*Res, error) {
		able, err := optional[C](container, name)
		if err != nil {
			return nil, err
		}
		return call(able, ctx, message)
	})
}

// Claim assigns a prepared agent to a container.
func (s *service) Claim(ctx context.Context, request *connect.Request[agentv1.ClaimRequest]) (*connect.Response[agentv1.ClaimResponse], error) {
	return unaryOf(ctx, s, request, "Claim", Claimable.Claim)
}

// Prove returns a proof of the agent's task.
func (s *service) Prove(ctx context.Context, request *connect.Request[agentv1.ProveRequest]) (*connect.Response[agentv1.ProveResponse], error) {
	return unaryOf(ctx, s, request, "Prove", Provable.Prove)
}

// Reseal replaces what Describe returns.
func (s *service) Reseal(ctx context.Context, request *connect.Request[agentv1.ResealRequest]) (*connect.Response[agentv1.ResealResponse], error) {
	return unaryOf(ctx, s, request, "Reseal", Sealed.Reseal)
}

// Release lets the agent leave.
func (s *service) Release(ctx context.Context, request *connect.Request[agentv1.ReleaseRequest]) (*connect.Response[agentv1.ReleaseResponse], error) {
	return unaryOf(ctx, s, request, "Release", func(c Releasable, ctx context.Context, release *agentv1.ReleaseRequest) (*agentv1.ReleaseResponse, error) {
		return &agentv1.ReleaseResponse{}, c.Release(ctx, release.Generation)
	})
}

// Names configures the container's resolver.
func (s *service) Names(ctx context.Context, request *connect.Request[agentv1.NamesRequest]) (*connect.Response[agentv1.NamesResponse], error) {
	return unaryOf(ctx, s, request, "Names", func(c Named, ctx context.Context, names *agentv1.NamesRequest) (*agentv1.NamesResponse, error) {
		return &agentv1.NamesResponse{}, c.Names(ctx, names)
	})
}
