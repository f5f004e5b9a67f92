package server

import (
	"context"

	"github.com/moby/buildkit/frontend"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxImports bounds the build caches that a solve imports. BuildKit asks for all of them at once.
const maxImports = 64

func boundImports(count int) error {
	if count > maxImports {
		return status.Errorf(codes.InvalidArgument, "the build imports %d caches, more than the %d that it may import", count, maxImports)
	}
	return nil
}

// boundedBridge refuses solves of a frontend that exceed a limit.
type boundedBridge struct{ frontend.FrontendLLBBridge }

func (b boundedBridge) Solve(ctx context.Context, request frontend.SolveRequest, session string) (*frontend.Result, error) {
	if err := boundImports(len(request.CacheImports)); err != nil {
		return nil, err
	}
	return b.FrontendLLBBridge.Solve(ctx, request, session)
}
