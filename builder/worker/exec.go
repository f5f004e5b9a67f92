package worker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
)

// execOp runs a command in an ordinary container of the backend, and turns its changes into a layer. Its cache key is
// BuildKit's own.
type execOp struct {
	*ops.ExecOp
	worker      *Worker
	op          *pb.ExecOp
	platform    *pb.Platform
	limits      *pb.LinuxResources
	description string
	sessions    *session.Manager
}

func (w *Worker) newExecOp(v solver.Vertex, op *pb.Op_Exec, platform *pb.Platform, sessions *session.Manager) (solver.Op, error) {
	var limits *pb.LinuxResources
	if known, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && known != nil {
		limits = known.LinuxResources
	}
	real, err := ops.NewExecOp(v, op, platform, &manager{Worker: w}, nil, sessions, nil, w, limits, false)
	if err != nil {
		return nil, err
	}
	return &execOp{ExecOp: real, worker: w, op: op.Exec, platform: platform, limits: limits, description: v.Name(), sessions: sessions}, nil
}

// CacheMap is BuildKit's, with checksums of mounted states computed from what is mounted.
func (o *execOp) CacheMap(ctx context.Context, job solver.JobContext, index int) (*solver.CacheMap, bool, error) {
	made, done, err := o.ExecOp.CacheMap(ctx, job, index)
	return o.worker.overFetched(made, o.pathsMounted), done, err
}

func (o *execOp) pathsMounted(input int) []string {
	var paths []string
	for _, mount := range o.op.Mounts {
		if int(mount.Input) == input {
			paths = append(paths, path.Join("/", mount.Selector))
		}
	}
	return paths
}

func (o *execOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) (outputs []solver.Result, err error) {
	if o.platform != nil && (o.platform.OS != "linux" || o.platform.Architecture != runtime.GOARCH) {
		return nil, fmt.Errorf("sockerless: RUN for %s/%s is not implemented by the builder: containers of this backend are linux/%s",
			o.platform.OS, o.platform.Architecture, runtime.GOARCH)
	}
	if o.op.Security == pb.SecurityMode_INSECURE {
		return nil, errors.New("sockerless: RUN --security=insecure is not implemented by the builder: no step is privileged")
	}
	leave, err := o.worker.running.takeOf(ctx, job.Session())
	if err != nil {
		return nil, err
	}
	defer leave()
	step := &step{execOp: o, job: job, inputs: inputs}
	defer func() { err = errors.Join(err, step.end(context.WithoutCancel(ctx))) }()
	outputs, err = step.run(ForBuilds(ctx, job.Session()))
	return unlessCancelled(ctx, outputs, err)
}
