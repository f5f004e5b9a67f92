package worker

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// aJob has no session.
type aJob struct{ solver.JobContext }

func (aJob) Session() session.Group { return nil }

const baseName = "docker.io/library/base:1"

func baseImage(content string) *backendv1.ImageDetail {
	return &backendv1.ImageDetail{
		Id: digest.FromString("config of " + content).String(), DiffIds: []string{digest.FromString(content).String()},
		RepoDigests: []string{"docker.io/library/base@" + digest.FromString("manifest of "+content).String()},
		Platform:    &backendv1.Platform{Os: "linux", Architecture: runtime.GOARCH},
	}
}

// keyed is the source of the image that has the name, after its first key was told.
func keyed(t *testing.T, w *Worker) *imageInstance {
	t.Helper()
	source := &imageSource{worker: w}
	id, err := source.Identifier("", baseName, nil, nil)
	assert.NilError(t, err)
	instance, err := source.Resolve(context.Background(), id, nil, nil)
	assert.NilError(t, err)
	_, _, _, _, err = instance.CacheKey(context.Background(), aJob{}, 0)
	assert.NilError(t, err)
	return instance.(*imageInstance)
}

func removeImage(t *testing.T, w *Worker, image string) {
	t.Helper()
	assert.NilError(t, w.backend.RemoveImage(context.Background(), image))
}

func snapshotOf(t *testing.T, instance *imageInstance) []digest.Digest {
	t.Helper()
	made, err := instance.Snapshot(context.Background(), aJob{})
	assert.NilError(t, err)
	defer made.Release(context.Background())
	return made.(*ref).diffIDs
}

func TestABaseImagesKeysAndFilesAreOfOneImage(t *testing.T) {
	w, server := workerOf(t)
	first, second := baseImage("first"), baseImage("second")
	server.Name(baseName, first)
	instance := keyed(t, w)
	server.Name(baseName, second)
	if key, _, _, _, err := instance.CacheKey(context.Background(), aJob{}, 1); err != nil || key != first.Id {
		t.Errorf("the second key is %s, %v; the image is %s", key, err, first.Id)
	}
	if got := snapshotOf(t, instance); !slices.Equal(got, []digest.Digest{digest.FromString("first")}) {
		t.Errorf("the files are %v", got)
	}
}

func TestABaseImageThatIsGoneIsPulledAgainButNotAnother(t *testing.T) {
	w, server := workerOf(t)
	pulled := baseImage("first")
	server.Name(baseName, pulled)
	server.Before = func(procedure string) {
		if procedure == "PullImage" {
			server.Name(baseName, pulled)
		}
	}
	instance := keyed(t, w)
	remove := func() {
		removeImage(t, w, pulled.Id)
		removeImage(t, w, baseName)
	}
	remove()
	if got := snapshotOf(t, instance); !slices.Equal(got, []digest.Digest{digest.FromString("first")}) {
		t.Errorf("the files are %v", got)
	}
	remove()
	pulled = baseImage("second")
	_, err := instance.Snapshot(context.Background(), aJob{})
	assert.Check(t, is.ErrorContains(err, "was removed while it was being built from"), "another image was taken")
}

func TestPullsCountAmongTheImagesThatAClientHasDescribed(t *testing.T) {
	w, server := workerOf(t)
	sessions, err := session.NewManager()
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	const first = maxDescribed // that are missing
	var asked atomic.Int64
	under, goOn := make(chan struct{}, 100), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "InspectImage" && asked.Add(1) > first {
			under <- struct{}{}
			<-goOn
		}
	}
	var all sync.WaitGroup
	for at := range first + maxTransfers {
		all.Go(func() {
			_, _ = w.ensureImage(ctx, fmt.Sprint("docker.io/library/base:", at), false, sessions, session.NewGroup("one"))
		})
	}
	for range maxDescribed {
		<-under
	}
	select {
	case <-under:
		t.Error("one more is described")
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	close(goOn)
	all.Wait()
}

func TestOnlySoManyImagesOfAClientArePulledAndPushedAtOnce(t *testing.T) {
	w, server := workerOf(t)
	transferring, goOn := make(chan struct{}, 100), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "PullImage" || procedure == "PushImage" {
			transferring <- struct{}{}
			<-goOn
		}
	}
	var all sync.WaitGroup
	_, sessions, client, _ := sending(t)
	export := &imageExport{imageExporter: &imageExporter{worker: w, sessions: sessions}}
	name, err := reference.ParseNormalizedNamed("pushed:1")
	assert.NilError(t, err)
	for at := range maxTransfers {
		all.Go(func() {
			_, _ = w.ensureImage(t.Context(), fmt.Sprintf("base:%d", at), false, sessions, session.NewGroup(client.ID()))
		})
		all.Go(func() { _, _ = export.pushImage(t.Context(), name, client.ID()) })
	}
	for range maxTransfers {
		<-transferring
	}
	select {
	case <-transferring:
		t.Error("one more is pulled or pushed")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	all.Wait()
}

func TestAnImageThatWasPulledDuringTheWaitForASlotIsNotPulledAgain(t *testing.T) {
	w, server := workerOf(t)
	var pulls atomic.Int32
	server.Before = func(procedure string) {
		if procedure == "PullImage" {
			pulls.Add(1)
			server.Name(baseName, baseImage("first"))
		}
	}
	var leaves []func()
	for range maxTransfers {
		leave, err := w.transfers.take(t.Context(), "")
		assert.NilError(t, err)
		leaves = append(leaves, leave)
	}
	const stages = 30
	var all sync.WaitGroup
	for range stages {
		all.Go(func() {
			_, err := w.ensureImage(t.Context(), baseName, false, nil, nil)
			assert.Check(t, err)
		})
	}
	for users := 0; users < maxTransfers+stages; {
		w.transfers.mu.Lock()
		users = w.transfers.of[""].users
		w.transfers.mu.Unlock()
	}
	for _, leave := range leaves {
		leave()
	}
	all.Wait()
	assert.Check(t, pulls.Load() <= maxTransfers, "%d pulls", pulls.Load())
}
