package worker

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	digest "github.com/opencontainers/go-digest"
)

// Recovered converts a panic to an error, so that one build cannot end the builder.
func Recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("sockerless: the builder failed: %v", reason)
	}
}

// recoveringOp converts an operation's panics to errors: the solver calls it in goroutines that recover nothing. Of a
// nested build BuildKit does not see the type, and so does not mark its provenance as incomplete.
type recoveringOp struct{ solver.Op }

func (o recoveringOp) CacheMap(ctx context.Context, job solver.JobContext, index int) (made *solver.CacheMap, isDone bool, err error) {
	defer Recovered(&err)
	made, isDone, err = o.Op.CacheMap(ctx, job, index)
	if err != nil {
		return nil, false, err
	}
	for at := range made.Deps {
		if preprocess := made.Deps[at].PreprocessFunc; preprocess != nil {
			made.Deps[at].PreprocessFunc = func(ctx context.Context, result solver.Result, group session.Group) (err error) {
				defer Recovered(&err)
				return preprocess(ctx, result, group)
			}
		}
		if compute := made.Deps[at].ComputeDigestFunc; compute != nil {
			made.Deps[at].ComputeDigestFunc = func(ctx context.Context, result solver.Result, group session.Group) (sum digest.Digest, err error) {
				defer Recovered(&err)
				return compute(ctx, result, group)
			}
		}
	}
	return made, isDone, nil
}

func (o recoveringOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) (outputs []solver.Result, err error) {
	defer Recovered(&err)
	return o.Op.Exec(ctx, job, inputs)
}

// recoveringSource does the same for a source. BuildKit reads the provenance from its own operation on sources, which
// thus cannot be wrapped.
type recoveringSource struct{ source.Source }

func (s recoveringSource) Identifier(scheme, name string, attributes map[string]string, platform *pb.Platform) (id source.Identifier, err error) {
	defer Recovered(&err)
	return s.Source.Identifier(scheme, name, attributes, platform)
}

func (s recoveringSource) Resolve(ctx context.Context, id source.Identifier, sessions *session.Manager, v solver.Vertex) (made source.SourceInstance, err error) {
	defer Recovered(&err)
	made, err = s.Source.Resolve(ctx, id, sessions, v)
	if err != nil {
		return nil, err
	}
	return recoveringInstance{made}, nil
}

type recoveringInstance struct{ source.SourceInstance }

func (i recoveringInstance) CacheKey(ctx context.Context, job solver.JobContext, index int) (key, pin string, options solver.CacheOpts, isDone bool, err error) {
	defer Recovered(&err)
	return i.SourceInstance.CacheKey(ctx, job, index)
}

func (i recoveringInstance) Snapshot(ctx context.Context, job solver.JobContext) (made cache.ImmutableRef, err error) {
	defer Recovered(&err)
	return i.SourceInstance.Snapshot(ctx, job)
}
