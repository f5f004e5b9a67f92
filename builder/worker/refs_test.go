package worker

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver"
	bkworker "github.com/moby/buildkit/worker"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

func workerOf(t *testing.T) (*Worker, *backendtest.Backend) {
	t.Helper()
	s, server := statesOf(t)
	return &Worker{
		backend: s.backend, states: s, caches: newCacheVolumes(), scratch: t.TempDir(), contexts: &contexts{root: t.TempDir()}, limits: Limits{Context: wide},
		transfers: slots{size: maxTransfers}, described: slots{size: maxDescribed},
	}, server
}

func TestFilesThatWereLetGoAreNotFetchedAgain(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	files := newTree(w, "image", false)
	assert.NilError(t, files.close())
	for name, look := range map[string]func() error{
		"fetch": func() error { return files.fetch(ctx, "/x") },
		"look":  func() error { _, err := files.look(ctx, "/x"); return err },
		"all":   func() error { return files.lookAll(ctx, []string{"/x"}) },
	} {
		if err := look(); !errors.Is(err, errClosed) {
			t.Errorf("%s answered %v", name, err)
		}
	}
	assert.Check(t, is.Len(server.Containers(), 0))
}

func TestTheEndOfTheLastBuildLetsGoOfWhatIsLeft(t *testing.T) {
	w, server := workerOf(t)
	ctx := context.Background()
	state := w.stateRef(installed(t, w.states, "state"))
	_, err := state.files.reader(ForBuilds(ctx, nil))
	assert.NilError(t, err)
	dir := t.TempDir()
	write(t, dir, "file", "")
	files, err := sent(t, w, dir, "")
	assert.NilError(t, err)
	letGo := w.TakeReferences()
	kept := w.stateRef(installed(t, w.states, "of the next build"))
	assert.NilError(t, letGo())
	w.WaitForRemovals(ctx, "")
	assert.Check(t, is.Len(server.Containers(), 0))
	if left, err := os.ReadDir(w.contexts.root); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if w.states.isInUse(state.id) || !w.states.isInUse(kept.id) {
		t.Errorf("in use: %v, of the next build: %v", w.states.isInUse(state.id), w.states.isInUse(kept.id))
	}
	// A late release changes nothing.
	assert.NilError(t, errors.Join(state.Release(ctx), files.Release(ctx), kept.Release(ctx)))
	assert.Check(t, !w.states.isInUse(kept.id), "still in use")
}

func TestAForgottenReferenceIsReleased(t *testing.T) {
	w, _ := workerOf(t)
	forgotten := w.stateRef(installed(t, w.states, "forgotten")).id
	held := w.stateRef(installed(t, w.states, "held"))
	held.Clone() // forgotten, too
	for end := time.Now().Add(10 * time.Second); w.states.isInUse(forgotten) && time.Now().Before(end); {
		runtime.GC()
	}
	if w.states.isInUse(forgotten) || !w.states.isInUse(held.id) {
		t.Errorf("in use: %v, the held one: %v", w.states.isInUse(forgotten), w.states.isInUse(held.id))
	}
	must(t, held.Release(context.Background()))
	for end := time.Now().Add(10 * time.Second); w.states.isInUse(held.id) && time.Now().Before(end); {
		runtime.GC()
	}
	assert.Check(t, !w.states.isInUse(held.id), "still in use")
}

func TestTheResultOfACancelledStepIsReleased(t *testing.T) {
	w, _ := workerOf(t)
	state := w.stateRef(installed(t, w.states, "state"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	results := []solver.Result{bkworker.NewWorkerRefResult(state, w)}
	_, err := unlessCancelled(ctx, results, nil)
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	assert.Check(t, !w.states.isInUse(state.id), "still in use")
}

func TestAStateInUseIsKnownToBeThere(t *testing.T) {
	w, server := workerOf(t)
	made := installed(t, w.states, "made")
	asked := false
	server.Before = func(procedure string) { asked = asked || procedure == "InspectImage" }
	held, err := w.LoadRef(context.Background(), made.ID, true)
	if err != nil || asked {
		t.Fatalf("the backend was asked, %v: %v", asked, err)
	}
	w.states.letGo(made.ID)
	if gone := pruned(t, w.states, client.PruneInfo{All: true}); gone != nil {
		t.Errorf("pruned %v", gone)
	}
	if err := held.Release(context.Background()); err != nil || w.states.isInUse(made.ID) {
		t.Errorf("it is held, %v", err)
	}
}

func TestAStateWhoseImageIsGoneIsNotFoundByBuildsAndExportsOfCaches(t *testing.T) {
	w, _ := workerOf(t)
	made := installed(t, w.states, "made")
	must(t, w.states.backend.RemoveImage(t.Context(), made.ID))
	for _, each := range []error{solver.ErrNotFound, errdefs.ErrNotFound} {
		if _, err := w.LoadRef(t.Context(), made.ID, false); !errors.Is(err, each) {
			t.Errorf("%v instead of %v", err, each)
		}
	}
}

func TestAContextIsLookedForWhileItIsReferredTo(t *testing.T) {
	w, _ := workerOf(t)
	ctx := context.Background()
	dir, err := w.contexts.take("")
	must(t, err)
	files := w.contextRef("context:1", dir)
	_, err = w.LoadRef(ctx, "context:1", false)
	assert.Check(t, is.ErrorIs(err, solver.ErrNotFound), "it is used")
	held, err := w.LoadRef(ctx, "context:1", true)
	must(t, err)
	must(t, files.Release(ctx))
	_, err = os.Stat(dir.path)
	assert.Check(t, err)
	must(t, held.Release(ctx))
	_, err = w.LoadRef(ctx, "context:1", true)
	assert.Check(t, is.ErrorIs(err, solver.ErrNotFound), "it is there still")
}

func TestAStateOfWhichNothingIsReadNeedsNoContainer(t *testing.T) {
	w, server := workerOf(t)
	state := bkworker.NewWorkerRefResult(w.stateRef(installed(t, w.states, "state")), w)
	if scoped, err := w.scoped(context.Background(), state, nil); err != nil || scoped != state {
		t.Errorf("%v, %v", scoped, err)
	}
	assert.Check(t, is.Len(server.Containers(), 0))
}
