package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// mounting returns a factory of steps that mount the same file of a context.
func mounting(t *testing.T) (*Worker, *backendtest.Backend, func() *step) {
	t.Helper()
	w, server := workerOf(t)
	dir, err := w.contexts.take("")
	assert.NilError(t, err)
	write(t, dir.path, "file", "content")
	files := w.contextRef("context", dir)
	t.Cleanup(func() { files.Release(context.Background()) })
	return w, server, func() *step {
		t.Helper()
		made := &step{
			execOp: &execOp{worker: w}, host: &backendv1.HostConfig{},
			inputs: []solver.Result{bkworker.NewWorkerRefResult(files, w)},
		}
		assert.NilError(t, made.mountBind(context.Background(), &pb.Mount{Readonly: true, Dest: "/mounted", Selector: "/file"}))
		return made
	}
}

// copied installs, like a COPY, the state that equals the mounted one, and releases it.
func copied(t *testing.T, w *Worker, mounted *step) string {
	t.Helper()
	ctx := context.Background()
	known, err := w.states.recorded(mounted.host.Mounts[0].Source)
	assert.NilError(t, err)
	made, err := w.states.install(ctx, known.DiffIDs, nil, origin{description: "COPY file /", kind: client.UsageRecordTypeRegular})
	assert.NilError(t, err)
	w.states.letGo(made.ID)
	return made.ID
}

func TestAMountOfTheContextGoesWithTheLastStepThatHasIt(t *testing.T) {
	w, server, mount := mounting(t)
	first, second := mount(), mount()
	for _, each := range []*step{first, second} {
		if len(server.Images()) != 1 {
			t.Errorf("mounted are %v", server.Images())
		}
		assert.Check(t, each.end(context.Background()))
	}
	if left, err := w.states.list(); err != nil || len(left) != 0 || len(server.Images()) != 0 {
		t.Errorf("left %v, %v, %v", left, server.Images(), err)
	}
}

func TestAMountOfTheContextLeavesACopysEqualState(t *testing.T) {
	w, server, mount := mounting(t)
	mounted := mount()
	id := copied(t, w, mounted)
	for range 2 {
		assert.Check(t, mounted.end(context.Background()))
		if left, err := w.states.list(); err != nil || len(left) != 1 || left[0].Description != "COPY file /" || left[0].Type != client.UsageRecordTypeRegular {
			t.Errorf("left %v, %v", left, err)
		}
		if there := server.Images(); !slices.Equal(there, []string{id}) {
			t.Errorf("the backend has %v", there)
		}
		// Now the copy comes first.
		mounted = mount()
	}
	mounted.end(context.Background())
}

func TestAMountedFileGoesWithTheStartWhereDirectoriesAloneAreMounted(t *testing.T) {
	w, server, mount := mounting(t)
	w.mountsDirectoriesOnly = true
	mounted := mount()
	if len(mounted.host.Mounts)+len(server.Images()) != 0 {
		t.Errorf("mounted are %v of %v", mounted.host.Mounts, server.Images())
	}
	given := mounted.secrets.Files
	if len(given) != 1 || given[0].Path != "/mounted" || string(given[0].Content) != "content" || given[0].Mode != 0o644 {
		t.Errorf("given are %v", given)
	}
}

func TestTheFilesThatGoWithAStartAreBoundedTogether(t *testing.T) {
	w, _ := workerOf(t)
	w.mountsDirectoriesOnly = true
	dir, err := w.contexts.take("")
	must(t, err)
	write(t, dir.path, "half", strings.Repeat("x", maxGivenFiles/2))
	write(t, dir.path, "byte", "x")
	files := w.contextRef("context", dir)
	defer files.Release(context.Background())
	made := &step{
		execOp: &execOp{worker: w}, host: &backendv1.HostConfig{},
		inputs: []solver.Result{bkworker.NewWorkerRefResult(files, w)},
	}
	made.secrets.Files = []*backendv1.SecretFile{{Path: "/run/secrets/one", Content: []byte("x")}}
	mount := func(name string) error {
		return made.mountBind(context.Background(), &pb.Mount{Readonly: true, Dest: "/mounted/" + name, Selector: "/" + name})
	}
	must(t, mount("half"))
	err = mount("half")
	if err == nil || !strings.Contains(err.Error(), "/half takes 2097152 bytes: ") || len(made.secrets.Files) != 2 {
		t.Errorf("%v, given %d", err, len(made.secrets.Files))
	}
	must(t, mount("byte"))
}

func TestACacheThatBeginsAsAContextIsRefusedByName(t *testing.T) {
	w, server := workerOf(t)
	dir, err := w.contexts.take("")
	must(t, err)
	files := w.contextRef("context", dir)
	defer files.Release(context.Background())
	made := &step{
		execOp: &execOp{worker: w}, host: &backendv1.HostConfig{},
		inputs: []solver.Result{bkworker.NewWorkerRefResult(files, w)},
	}
	err = made.mountCache(context.Background(), &pb.Mount{Dest: "/kept", Selector: "/sub", CacheOpt: &pb.CacheOpt{ID: "kept"}})
	assert.Check(t, is.ErrorContains(err, "RUN --mount=type=cache,target=/kept,from=… of a build context is not implemented"))
	if len(made.host.Mounts)+len(made.caches)+len(server.Images()) != 0 {
		t.Errorf("left %v, %v, %v", made.host.Mounts, made.caches, server.Images())
	}
}

func TestAMountThatIsNotRemovedFailsNoStep(t *testing.T) {
	_, server, mount := mounting(t)
	mounted := mount()
	server.RemoveImageError = errors.New("the disk is gone")
	assert.Check(t, mounted.end(context.Background()))
}

func TestTheContainerOfADoneStepIsGoneAtTheEndOfItsBuild(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	id, _, err := w.backend.CreateContainer(ctx, &backendv1.ContainerConfig{}, nil)
	must(t, err)
	removing, goOn := make(chan struct{}), make(chan struct{})
	server.Before = func(string) {
		close(removing)
		<-goOn
	}
	done := stepOf(w, &job{session: "one"}, "")
	done.atEnd = append(done.atEnd, func(context.Context) error { return nil })
	assert.Assert(t, done.removeBehind(id), "it is not removed behind the step")
	<-removing
	w.WaitForRemovals(ctx, "other")
	left, leave := context.WithCancel(ctx)
	leave()
	w.WaitForRemovals(left, "one")
	close(goOn)
	w.WaitForRemovals(ctx, "one")
	assert.Check(t, is.Len(server.Containers(), 0))
	if len(w.removals.underWay) != 0 {
		t.Errorf("still known are %v", w.removals.underWay)
	}
	// A step with more to release does that after its container.
	done.atEnd = append(done.atEnd, func(context.Context) error { return nil })
	assert.Check(t, !done.removeBehind(id), "it is removed behind a step that has more to let go of")
}

func TestAStateThatWasReadIsLetGoWithoutWaitingForTheBackend(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	state := w.stateRef(installed(t, w.states, "state"))
	build := &job{session: "one"}
	_, err := state.files.reader(ForBuilds(ctx, build.Session()))
	must(t, err)
	goOn := make(chan struct{})
	server.Before = func(string) { <-goOn }
	must(t, state.Release(ctx))
	close(goOn)
	w.WaitForRemovals(ctx, "one")
	assert.Check(t, is.Len(server.Containers(), 0))
}

func TestAPruneWaitsForTheContainersOfEndedBuilds(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	state := w.stateRef(installed(t, w.states, "state"))
	_, err := state.files.reader(ForBuilds(ctx, nil))
	must(t, err)
	early := make(chan struct{})
	server.Before = func(called string) {
		switch called {
		case "RemoveContainer":
			select {
			case <-early:
			case <-time.After(100 * time.Millisecond): // A prune that does not wait is quicker.
			}
		case "RemoveImage":
			if left := server.Containers(); len(left) != 0 {
				t.Errorf("removed while %v have it", left)
				close(early)
			}
		}
	}
	must(t, state.Release(ctx))
	must(t, w.Prune(ctx, nil, client.PruneInfo{All: true}))
	assert.Check(t, is.Len(server.Images(), 0))
}

func TestAStateThatIsReadIsLetGoWithoutWaitingForItsReader(t *testing.T) {
	w, server := workerOf(t)
	state := w.stateRef(installed(t, w.states, "state"))
	creating, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server.Before = func(called string) {
		if called == "CreateContainer" {
			close(creating)
			<-goOn
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_ = state.files.fetch(ctx, "/")
	}()
	<-creating
	cancel()
	must(t, state.Release(context.Background()))
	close(goOn)
	<-done
	isClosed := func() bool {
		state.files.mu.Lock()
		defer state.files.mu.Unlock()
		return state.files.isClosed
	}
	for !isClosed() || len(server.Containers()) > 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestACacheThatAStepHasIsNotEmptied(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	idle, mounted, taken, other := cacheVolume("id"), cacheVolume("id")+"-1", cacheVolume("id")+"-of-state", cacheVolume("other")
	server.Volumes = map[string]bool{idle: false, mounted: true, taken: false, other: false}
	_, release, err := w.caches.take(ctx, taken, pb.CacheSharingOpt_SHARED)
	must(t, err)
	must(t, w.PruneCacheMounts(ctx, map[string]bool{"id": true}))
	left := slices.Sorted(maps.Keys(server.Volumes))
	if want := slices.Sorted(slices.Values([]string{mounted, taken, other})); !slices.Equal(left, want) {
		t.Errorf("left are %v, not %v", left, want)
	}
	release()
	must(t, w.PruneCacheMounts(ctx, map[string]bool{"id": true}))
	if _, isThere := server.Volumes[taken]; isThere {
		t.Error("it stays when its step has given it back")
	}
}

func TestVolumesAreListedOnceHoweverManyCachesAreEmptied(t *testing.T) {
	w, server := workerOf(t)
	ids := map[string]bool{}
	server.Volumes = map[string]bool{"sockerless-build": false, "other": false}
	for at := range 100 {
		ids[fmt.Sprint(at)] = true
		server.Volumes[cacheVolume(fmt.Sprint(at))] = false
	}
	lists := 0
	server.Before = func(procedure string) {
		if procedure == "ListVolumes" {
			lists++
		}
	}
	must(t, w.PruneCacheMounts(t.Context(), ids))
	assert.Check(t, lists == 1 && len(server.Volumes) == 2, "%d lists, left %v", lists, server.Volumes)
}

func TestACacheThatIsBeingEmptiedIsWaitedFor(t *testing.T) {
	w, server := workerOf(t)
	volume := cacheVolume("id")
	server.Volumes = map[string]bool{volume: false}
	removing, goOn := make(chan struct{}), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "RemoveVolume" {
			close(removing)
			<-goOn
		}
	}
	pruned := make(chan error, 1)
	go func() { pruned <- w.PruneCacheMounts(context.Background(), map[string]bool{"id": true}) }()
	<-removing
	for _, sharing := range []pb.CacheSharingOpt{pb.CacheSharingOpt_SHARED, pb.CacheSharingOpt_PRIVATE, pb.CacheSharingOpt_LOCKED} {
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		if name, _, err := w.caches.take(cancelled, volume, sharing); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: a step has %q meanwhile, %v", sharing, name, err)
		}
	}
	close(goOn)
	must(t, <-pruned)
	_, release, err := w.caches.take(context.Background(), volume, pb.CacheSharingOpt_LOCKED)
	must(t, err)
	release()
	if len(w.caches.counts)+len(w.caches.busy)+len(w.caches.leaving) != 0 {
		t.Errorf("still known are %v, %v, %v", w.caches.counts, w.caches.busy, w.caches.leaving)
	}
}

func TestAStepMountsOneCacheAtSeveralPlaces(t *testing.T) {
	w, _ := workerOf(t)
	for _, sharing := range []pb.CacheSharingOpt{pb.CacheSharingOpt_SHARED, pb.CacheSharingOpt_PRIVATE, pb.CacheSharingOpt_LOCKED} {
		made := &step{execOp: &execOp{worker: w}, host: &backendv1.HostConfig{}}
		// A step that waited for itself would never end.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		for _, dest := range []string{"/one", "/two"} {
			must(t, made.mountCache(ctx, &pb.Mount{Input: -1, Dest: dest, CacheOpt: &pb.CacheOpt{ID: "id", Sharing: sharing}}))
		}
		cancel()
		if mounts := made.host.Mounts; len(mounts) != 2 || mounts[0].Source != mounts[1].Source {
			t.Errorf("%v: mounted are %v", sharing, mounts)
		}
		must(t, made.end(context.Background()))
	}
	if len(w.caches.counts)+len(w.caches.busy) != 0 {
		t.Errorf("still taken are %v, %v", w.caches.counts, w.caches.busy)
	}
}
