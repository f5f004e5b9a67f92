package worker

import (
	"context"

	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// MaxImports bounds the build caches that a solve imports. BuildKit asks for all of them at once.
	MaxImports = 64
	// maxGraph bounds the operations of a definition with their inputs, and maxInputs the inputs of one. The solver records
	// each input in a transaction of its own, for which all builds wait, and looks at all inputs of an operation when one
	// has changed, in the one goroutine that schedules every build.
	maxGraph  = 8192
	maxInputs = 1024
)

// BoundSolve refuses a solve that imports too many caches, or whose definition has too many operations or inputs.
func BoundSolve(imports int, definition *pb.Definition) error {
	if imports > MaxImports {
		return status.Errorf(codes.InvalidArgument, "the build imports %d caches, more than the %d that it may import", imports, MaxImports)
	}
	graph := 0
	for _, text := range definition.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(text); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		count := len(op.Inputs)
		if count > maxInputs {
			return status.Errorf(codes.InvalidArgument, "an operation of the build has %d inputs, more than the %d that it may have", count, maxInputs)
		}
		if graph += 1 + count; graph > maxGraph {
			return status.Errorf(codes.InvalidArgument, "the build has more than %d operations and inputs of these", maxGraph)
		}
	}
	return nil
}

// BoundedBridge refuses a frontend's solves that exceed a limit.
type BoundedBridge struct{ frontend.FrontendLLBBridge }

// Solve is bounded.
func (b BoundedBridge) Solve(ctx context.Context, request frontend.SolveRequest, session string) (*frontend.Result, error) {
	if err := BoundSolve(len(request.CacheImports), request.Definition); err != nil {
		return nil, err
	}
	return b.FrontendLLBBridge.Solve(ctx, request, session)
}
