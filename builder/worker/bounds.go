package worker

import (
	"context"
	"sync/atomic"

	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
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
	// maxPaths bounds the paths from a definition's operations down to their inputs, all together. For two operations with
	// one cache key the solver takes all of them, however often they meet, in the goroutine that schedules every build: some
	// 25 ns each. Three stages that each have dozens of copies from the one before need some ten millions.
	maxPaths = 1 << 26
	// maxNames bounds the names of a definition's operations together.
	maxNames = 64 << 20
)

// BoundSolve refuses a solve that imports too many caches, or whose definition has too many operations, inputs or paths.
func BoundSolve(imports int, definition *pb.Definition) error {
	if imports > MaxImports {
		return status.Errorf(codes.InvalidArgument, "the build imports %d caches, more than the %d that it may import", imports, MaxImports)
	}
	graph := 0
	ops := map[digest.Digest]*pb.Op{}
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
		ops[digest.FromBytes(text)] = &op
	}
	names := &names{metadata: definition.GetMetadata(), ops: ops, known: map[digest.Digest]int64{}}
	var sum int64
	for id := range ops {
		if sum += names.length(id); sum > maxNames {
			return status.Errorf(codes.InvalidArgument, "the names of the build's operations have more than the %d bytes that they may have", maxNames)
		}
	}
	down := &paths{ops, map[digest.Digest]int{}}
	count := 0
	for id := range ops {
		if count += down.from(id); count > maxPaths {
			return status.Errorf(codes.InvalidArgument, "the build has more than %d paths from its operations down to their inputs", maxPaths)
		}
	}
	return nil
}

// paths counts those from a definition's operations down to their inputs: they double where an operation has an input
// twice.
type paths struct {
	ops   map[digest.Digest]*pb.Op
	known map[digest.Digest]int
}

func (p *paths) from(id digest.Digest) int {
	if count, ok := p.known[id]; ok {
		return count
	}
	count := 1
	for _, input := range p.ops[id].GetInputs() {
		count = min(count+p.from(digest.Digest(input.Digest)), maxPaths+1)
	}
	p.known[id] = count
	return count
}

// names bounds the names that BuildKit gives a definition's operations: that of a merge or a diff has those of all its
// inputs, and so may double with each.
type names struct {
	metadata map[string]*pb.OpMetadata
	ops      map[digest.Digest]*pb.Op
	known    map[digest.Digest]int64
}

// named lists the inputs in an operation's name. Both sides of a diff may be one input.
func named(op *pb.Op) []*pb.Input {
	if op.GetMerge() != nil {
		return op.Inputs
	}
	var sides []*pb.Input
	if diff := op.GetDiff(); diff != nil {
		for _, at := range []int64{diff.GetLower().GetInput(), diff.GetUpper().GetInput()} {
			if at >= 0 && at < int64(len(op.Inputs)) {
				sides = append(sides, op.Inputs[at])
			}
		}
	}
	return sides
}

func (n *names) length(id digest.Digest) int64 {
	if length, ok := n.known[id]; ok {
		return length
	}
	op := n.ops[id]
	length := int64(op.SizeVT())
	if name, ok := n.metadata[id.String()].GetDescription()["llb.customname"]; ok {
		length = int64(len(name))
	} else {
		for _, input := range named(op) {
			length = min(length+n.length(digest.Digest(input.Digest)), maxNames+1)
		}
	}
	n.known[id] = length
	return length
}

// BoundedBridge refuses a frontend's solves that exceed a limit, and bounds its warnings.
type BoundedBridge struct {
	frontend.FrontendLLBBridge
	Warnings *Warnings
}

// Solve is bounded. Frontends in containers call it where nothing recovers.
func (b BoundedBridge) Solve(ctx context.Context, request frontend.SolveRequest, session string) (_ *frontend.Result, err error) {
	defer Recovered(&err)
	if err := BoundSolve(len(request.CacheImports), request.Definition); err != nil {
		return nil, err
	}
	return b.FrontendLLBBridge.Solve(context.WithValue(ctx, warningsOf{}, b.Warnings), request, session)
}

// Warn leaves out what there is no room for.
func (b BoundedBridge) Warn(ctx context.Context, of digest.Digest, text string, options frontend.WarnOpts) error {
	bytes := len(text) + len(options.URL) + options.SourceInfo.SizeVT() + rangeBytes*len(options.Range)
	for _, detail := range options.Detail {
		bytes += len(detail) + rangeBytes
	}
	if !b.Warnings.Fit(bytes) {
		return nil
	}
	return b.FrontendLLBBridge.Warn(ctx, of, text, options)
}

// maxWarnings bounds the bytes of a build's warnings, all of which BuildKit keeps until the build ends.
const maxWarnings = 4 << 20

const (
	// warningBytes is what a warning takes besides its parts.
	warningBytes = 1 << 10
	// rangeBytes is what a place in a file, or a line of detail, takes besides its text.
	rangeBytes = 128
)

// Warnings counts those of a build and of all frontends that its frontends solve.
type Warnings struct{ bytes atomic.Int64 }

// Fit counts a warning, and reports whether there is room for it.
func (w *Warnings) Fit(bytes int) bool {
	return w.bytes.Add(int64(bytes+warningBytes)) <= maxWarnings
}

type warningsOf struct{}

// WarningsOf returns those of the build that solves with ctx.
func WarningsOf(ctx context.Context) *Warnings {
	if warnings, ok := ctx.Value(warningsOf{}).(*Warnings); ok {
		return warnings
	}
	return &Warnings{}
}

// buildOpBridge refuses an llb.Build within the definition of another. With each within one more, the solver takes all
// paths up from what they have in common, while all builds wait.
type buildOpBridge struct{ BoundedBridge }

// Solve is called with the definition that the operation has read.
func (b buildOpBridge) Solve(ctx context.Context, request frontend.SolveRequest, session string) (_ *frontend.Result, err error) {
	defer Recovered(&err)
	for _, text := range request.Definition.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(text); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if op.GetBuild() != nil {
			return nil, status.Error(codes.InvalidArgument, "sockerless: llb.Build within the definition of another llb.Build is not implemented by the builder")
		}
	}
	return b.BoundedBridge.Solve(ctx, request, session)
}
