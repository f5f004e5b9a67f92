package worker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// job is a step's view of a build.
type job struct {
	solver.JobContext
	session string
	atEnd   []func() error
}

func (j *job) Session() session.Group { return session.NewGroup(j.session) }

func (j *job) Cleanup(do func() error) error {
	j.atEnd = append(j.atEnd, do)
	return nil
}

func stepOf(w *Worker, build *job, network string, mounts ...*backendv1.Mount) *step {
	return &step{
		execOp: &execOp{worker: w, op: &pb.ExecOp{}}, job: build,
		host: &backendv1.HostConfig{NetworkMode: network, Mounts: mounts}, config: &backendv1.ContainerConfig{},
	}
}

func TestOfABuildOnlySoManyContainersWait(t *testing.T) {
	w, server := workerOf(t)
	var ids []string
	for range mostWaiting + 1 {
		id, _, err := w.backend.CreateContainer(context.Background(), &backendv1.ContainerConfig{}, nil)
		must(t, err)
		ids = append(ids, id)
		stepOf(w, &job{session: "many"}, "").leave(record{ID: "state"}, id)
		stepOf(w, &job{session: "few " + id}, "").leave(record{ID: "state"}, "other "+id)
	}
	w.WaitForRemovals(context.Background(), "many")
	left := server.Containers()
	if len(left) != mostWaiting || slices.Contains(left, ids[0]) {
		t.Error(left)
	}
	if len(w.stages.waiting) != 2*mostWaiting+1 {
		t.Error(w.stages.waiting)
	}
}

func TestAStepIsContinuedByTheNextOfItsBuildAlone(t *testing.T) {
	w, _ := workerOf(t)
	one, other := &job{session: "one"}, &job{session: "other"}
	assert.Assert(t, stepOf(w, one, "").leave(record{ID: "state", DiffIDs: []digest.Digest{"a", "b"}}, "container"), "the container is not kept")
	takes := func(next *step, layers ...digest.Digest) bool {
		at, ok := next.stage()
		if !ok {
			return false
		}
		_, ok = w.stages.take(at, layers)
		return ok
	}
	for name, refused := range map[string]bool{
		"another build's":   takes(stepOf(w, other, ""), "a", "b"),
		"another state's":   takes(stepOf(w, one, ""), "a", "c"),
		"an earlier one":    takes(stepOf(w, one, ""), "a"),
		"another network's": takes(stepOf(w, one, "none"), "a", "b"),
		"one with a mount":  takes(stepOf(w, one, "", &backendv1.Mount{Target: "/cache"}), "a", "b"),
	} {
		assert.Check(t, !refused, "%s took it", name)
	}
	withSecret := stepOf(w, one, "")
	withSecret.secrets.Files = []*backendv1.SecretFile{{Path: "/run/secrets/one"}}
	if !takes(withSecret, "a", "b") || takes(stepOf(w, one, ""), "a", "b") {
		t.Error("it is not taken once")
	}
}

func TestAStepIsContinuedAcrossLayersThatCameBetween(t *testing.T) {
	w, _ := workerOf(t)
	build := &job{session: "one"}
	stepOf(w, build, "").leave(record{ID: "base", DiffIDs: []digest.Digest{"a"}}, "further")
	stepOf(w, build, "").leave(record{ID: "nearer", DiffIDs: []digest.Digest{"a", "b"}}, "nearest")
	at, _ := stepOf(w, build, "").stage()
	for _, want := range []string{"nearest", "further", ""} {
		if got, _ := w.stages.take(at, []digest.Digest{"a", "b", "copied"}); got.container != want {
			t.Errorf("it goes on in %q, not in %q", got.container, want)
		}
	}
}

// containerThatWaits is a container left by a build's step, with "state", for the next one.
func containerThatWaits(t *testing.T) (w *Worker, server *backendtest.Backend, build *job, id string) {
	t.Helper()
	w, server = workerOf(t)
	build = &job{session: "one"}
	id, _, err := w.backend.CreateContainer(context.Background(), &backendv1.ContainerConfig{}, nil)
	assert.NilError(t, err)
	stepOf(w, build, "").leave(record{ID: "state"}, id)
	return w, server, build, id
}

func TestAStepThatCannotBeContinuedBeginsAnother(t *testing.T) {
	w, server, build, _ := containerThatWaits(t)
	next := stepOf(w, build, "")
	next.root = &ref{content: &content{id: "state"}}
	// The server starts nothing.
	_, ok := next.continued(context.Background())
	w.WaitForRemovals(context.Background(), "one")
	if ok || len(server.Containers()) != 0 {
		t.Errorf("it goes on, %v", server.Containers())
	}
}

func TestAContainerThatWaitsGoesWithItsBuild(t *testing.T) {
	w, server, build, id := containerThatWaits(t)
	if there := server.Containers(); !slices.Equal(there, []string{id}) {
		t.Errorf("there are %v", there)
	}
	var failed error
	for _, do := range build.atEnd {
		failed = errors.Join(failed, do())
	}
	w.WaitForRemovals(context.Background(), "one")
	if failed != nil || len(server.Containers()) != 0 || len(w.stages.waiting) != 0 {
		t.Errorf("left %v, %v, %v", server.Containers(), w.stages.waiting, failed)
	}
}

func TestAContainerThatStepsHaveLeftInTurnIsRemovedOnce(t *testing.T) {
	w, server, build, id := containerThatWaits(t)
	next := stepOf(w, build, "")
	at, _ := next.stage()
	if left, ok := w.stages.take(at, nil); !ok || left.container != id {
		t.Fatalf("the next step goes on in %q", left.container)
	}
	next.leave(record{ID: "next"}, id)
	goOn := make(chan struct{})
	var removals atomic.Int32
	server.Before = func(called string) {
		if called == "RemoveContainer" {
			removals.Add(1)
			<-goOn
		}
	}
	for _, do := range build.atEnd {
		must(t, do())
	}
	close(goOn)
	w.WaitForRemovals(context.Background(), "one")
	if count := removals.Load(); len(build.atEnd) != 2 || count != 1 || len(server.Containers()) != 0 {
		t.Errorf("%d removals, left %v", count, server.Containers())
	}
}

func TestAStepWhoseContainerCannotBeRemovedHasEnded(t *testing.T) {
	w, server := workerOf(t)
	var tries atomic.Int32
	server.RemoveContainerError = func() error {
		if tries.Add(1) == 1 {
			return connect.NewError(connect.CodeInternal, errors.New("the cloud is busy"))
		}
		return nil
	}
	step := stepOf(w, &job{session: "one"}, "", &backendv1.Mount{})
	must(t, step.takeContainer(t.Context()))
	must(t, step.end(t.Context()))
	w.WaitForRemovals(t.Context(), "one")
	assert.Check(t, is.Len(server.Containers(), 0))
}

func TestAContainerThatCannotBeRemovedIsRemovedLater(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, w *Worker, server *backendtest.Backend, build *job){
		"of a build that has ended": func(*testing.T, *Worker, *backendtest.Backend, *job) {},
		"of an earlier builder": func(t *testing.T, w *Worker, _ *backendtest.Backend, build *job) {
			must(t, w.removeLeft(t.Context()))
			build.atEnd = nil
		},
		"that cannot be continued": func(t *testing.T, w *Worker, _ *backendtest.Backend, build *job) {
			next := stepOf(w, build, "")
			next.root = &ref{content: &content{id: "state"}}
			if id, ok := next.continued(t.Context()); ok {
				t.Errorf("it goes on in %s", id)
			}
			build.atEnd = nil
		},
		"that has filled a cache": func(t *testing.T, w *Worker, _ *backendtest.Backend, build *job) {
			must(t, stepOf(w, build, "").fillCache(t.Context(), "volume", "image", "/"))
		},
		"created for a build that was cancelled meanwhile": func(t *testing.T, w *Worker, server *backendtest.Backend, build *job) {
			ctx, cancel := context.WithCancel(t.Context())
			server.Before = func(called string) {
				if called == "CreateContainer" {
					cancel()
				}
			}
			step := stepOf(w, build, "", &backendv1.Mount{})
			_ = step.takeContainer(ctx)
			must(t, step.end(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, server, build, _ := containerThatWaits(t)
			var tries atomic.Int32
			server.RemoveContainerError = func() error {
				if tries.Add(1) == 1 {
					return connect.NewError(connect.CodeInternal, errors.New("the cloud is busy"))
				}
				return nil
			}
			use(t, w, server, build)
			w.removals.waitForAll(t.Context())
			for _, do := range build.atEnd {
				must(t, do())
			}
			for range 100 {
				if len(server.Containers()) == 0 {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("left %v after %d tries", server.Containers(), tries.Load())
		})
	}
}

func TestOnlySoManyLeftContainersAreRemovedAtOnce(t *testing.T) {
	w, server := workerOf(t)
	for range maxLeftRemovals + 1 {
		_, _, err := w.backend.CreateContainer(t.Context(), &backendv1.ContainerConfig{}, nil)
		must(t, err)
	}
	goOn, begun := make(chan struct{}), make(chan struct{}, maxLeftRemovals+1)
	server.Before = func(called string) {
		if called == "RemoveContainer" {
			begun <- struct{}{}
			<-goOn
		}
	}
	must(t, w.removeLeft(t.Context()))
	for range maxLeftRemovals {
		<-begun
	}
	time.Sleep(100 * time.Millisecond) // for another one to begin
	assert.Check(t, is.Len(begun, 0))
	close(goOn)
	w.removals.waitForAll(t.Context())
	assert.Check(t, is.Len(server.Containers(), 0))
}

func TestAStartingBuilderIsNotHeldUpByARemovalThatHangs(t *testing.T) {
	w, server, _, _ := containerThatWaits(t)
	goOn := make(chan struct{})
	server.Before = func(called string) {
		if called == "RemoveContainer" {
			<-goOn
		}
	}
	must(t, w.removeLeft(t.Context()))
	close(goOn)
	w.removals.waitForAll(t.Context())
	assert.Check(t, is.Len(server.Containers(), 0))
}

// Two steps that lock the same caches in different orders would wait for each other without an end.
func TestAStepLocksItsCachesInTheOrderOfTheirVolumes(t *testing.T) {
	w, _, build, _ := containerThatWaits(t)
	step := stepOf(w, build, "")
	var volumes []string
	for at, name := range []string{"one", "other"} {
		step.inputs = append(step.inputs, bkworker.NewWorkerRefResult(w.stateRef(installed(t, w.states, name)), w))
		mount := &pb.Mount{
			Input: int64(at), Selector: "/kept", Dest: "/" + name, MountType: pb.MountType_CACHE, Output: int64(pb.SkipOutput),
			CacheOpt: &pb.CacheOpt{ID: "id", Sharing: pb.CacheSharingOpt_LOCKED},
		}
		volume, _, err := step.volumeOf(mount)
		must(t, err)
		volumes, step.op.Mounts = append(volumes, volume), append(step.op.Mounts, mount)
	}
	if volumes[0] < volumes[1] {
		slices.Reverse(step.op.Mounts)
	}
	_, giveBack, err := w.caches.take(t.Context(), min(volumes[0], volumes[1]), pb.CacheSharingOpt_LOCKED)
	must(t, err)
	left, leave := context.WithCancel(t.Context())
	leave()
	if err := step.mountAll(left); err == nil || len(step.caches) > 0 {
		t.Errorf("it waits for the first, and has %v meanwhile: %v", step.caches, err)
	}
	giveBack()
	step.host.Mounts = nil
	must(t, step.mountAll(t.Context()))
	for at, each := range step.host.Mounts {
		assert.Check(t, is.Equal(each.Target, step.op.Mounts[at].Dest), "the mount at %d", at)
	}
	must(t, step.end(t.Context()))
}
