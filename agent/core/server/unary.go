package server

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/levels"
	"github.com/sockerless/sockerless/agent/core/zstdstream"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// service implements the generated handler interface.
type service struct {
	agentv1connect.UnimplementedAgentServiceHandler // what later methods of the contract answer until they are here

	resolve Resolver
}

func (s *service) container(ctx context.Context, header http.Header) (Container, error) {
	return s.resolve(ctx, header.Get(ContainerIDKey))
}

// unary runs a call on its container and converts its error.
func unary[Req, Res any](ctx context.Context, s *service, request *connect.Request[Req], call func(Container, *Req) (*Res, error)) (*connect.Response[Res], error) {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return nil, wireError(err)
	}
	response, err := call(container, request.Msg)
	if err != nil {
		return nil, wireError(err)
	}
	return connect.NewResponse(response), nil
}

// wireError gives an error its code.
func wireError(err error) error {
	var coded *connect.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return connect.NewError(codeOf(err), err)
}

func codeOf(err error) connect.Code {
	switch {
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSilent):
		return connect.CodeDeadlineExceeded
	case errors.Is(err, zstdstream.ErrNoRoom), errors.Is(err, levels.ErrNoRoom):
		return connect.CodeResourceExhausted
	case errors.Is(err, archive.ErrNotFound):
		return connect.CodeNotFound
	case errors.Is(err, archive.ErrStream):
		return connect.CodeDataLoss
	case errors.Is(err, archive.ErrInvalid):
		return connect.CodeInvalidArgument
	case errors.Is(err, archive.ErrReadOnly), errors.Is(err, archive.ErrPermission):
		return connect.CodePermissionDenied
	case errors.Is(err, archive.ErrUnsupported):
		return connect.CodeUnimplemented
	}
	return connect.CodeInternal
}

func (s *service) Hello(ctx context.Context, request *connect.Request[agentv1.HelloRequest]) (*connect.Response[agentv1.HelloResponse], error) {
	return unary(ctx, s, request, func(c Container, _ *agentv1.HelloRequest) (*agentv1.HelloResponse, error) {
		return c.Hello(ctx)
	})
}

func (s *service) Start(ctx context.Context, request *connect.Request[agentv1.StartRequest]) (*connect.Response[agentv1.StartResponse], error) {
	return unary(ctx, s, request, func(c Container, start *agentv1.StartRequest) (*agentv1.StartResponse, error) {
		return c.Start(ctx, start)
	})
}

func (s *service) Describe(ctx context.Context, request *connect.Request[agentv1.DescribeRequest]) (*connect.Response[agentv1.DescribeResponse], error) {
	return unary(ctx, s, request, func(c Container, _ *agentv1.DescribeRequest) (*agentv1.DescribeResponse, error) {
		return c.Describe(ctx)
	})
}

func (s *service) Resize(ctx context.Context, request *connect.Request[agentv1.ResizeRequest]) (*connect.Response[agentv1.ResizeResponse], error) {
	return unary(ctx, s, request, func(c Container, resize *agentv1.ResizeRequest) (*agentv1.ResizeResponse, error) {
		return &agentv1.ResizeResponse{}, c.Resize(ctx, resize)
	})
}

func (s *service) Signal(ctx context.Context, request *connect.Request[agentv1.SignalRequest]) (*connect.Response[agentv1.SignalResponse], error) {
	return unary(ctx, s, request, func(c Container, signal *agentv1.SignalRequest) (*agentv1.SignalResponse, error) {
		return &agentv1.SignalResponse{}, c.Signal(ctx, signal)
	})
}

func (s *service) ExecInspect(ctx context.Context, request *connect.Request[agentv1.ExecInspectRequest]) (*connect.Response[agentv1.ExecInspectResponse], error) {
	return unary(ctx, s, request, func(c Container, inspect *agentv1.ExecInspectRequest) (*agentv1.ExecInspectResponse, error) {
		return c.ExecInspect(ctx, inspect.ExecId, inspect.Refuse)
	})
}

func (s *service) Acknowledge(ctx context.Context, request *connect.Request[agentv1.AcknowledgeRequest]) (*connect.Response[agentv1.AcknowledgeResponse], error) {
	return unary(ctx, s, request, func(c Container, acknowledge *agentv1.AcknowledgeRequest) (*agentv1.AcknowledgeResponse, error) {
		return &agentv1.AcknowledgeResponse{}, c.Acknowledge(ctx, acknowledge.Sequence)
	})
}

func (s *service) Pause(ctx context.Context, request *connect.Request[agentv1.PauseRequest]) (*connect.Response[agentv1.PauseResponse], error) {
	return unary(ctx, s, request, func(c Container, _ *agentv1.PauseRequest) (*agentv1.PauseResponse, error) {
		return &agentv1.PauseResponse{}, c.Pause(ctx)
	})
}

func (s *service) Resume(ctx context.Context, request *connect.Request[agentv1.ResumeRequest]) (*connect.Response[agentv1.ResumeResponse], error) {
	return unary(ctx, s, request, func(c Container, _ *agentv1.ResumeRequest) (*agentv1.ResumeResponse, error) {
		return &agentv1.ResumeResponse{}, c.Resume(ctx)
	})
}
