package server

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	bolt "go.etcd.io/bbolt"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend"
	"github.com/sockerless/sockerless/builder/backend/backendtest"
	"github.com/sockerless/sockerless/builder/cachefiles"
	"github.com/sockerless/sockerless/builder/worker"
)

// TestMain makes the test's program a check of a database, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "--check-database" {
		if err := cachefiles.Check(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(cachefiles.ExitCode(err))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheHistoryIsBounded(t *testing.T) {
	s, _ := running(t)
	s.history.limit = 20_000
	_, connect := served(t, s)
	build := func(ref string, size int) {
		t.Helper()
		_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{
			Ref: ref, Frontend: "unknown", FrontendAttrs: map[string]string{"attribute": strings.Repeat("x", size)},
		})
		assert.Check(t, err != nil, "an unknown frontend has built")
	}
	build("small", 1)
	for range 5 {
		build(identity.NewID(), 8_000)
	}
	build("larger than all", 100_000)
	size, hasSmall := 0, false
	for _, record := range listed(t, connect()) {
		size += record.SizeVT()
		hasSmall = hasSmall || record.Ref == "small"
	}
	if size > 20_000 || !hasSmall {
		t.Errorf("the history has %d bytes, a small record: %t", size, hasSmall)
	}
}

func TestTheHistoryDoesNotWaitForTheDisk(t *testing.T) {
	s, _ := running(t)
	assert.Check(t, s.history.db.(*bolt.DB).NoSync)
}

// opened serves the builds of a directory as a builder does that starts there, until the returned function is called.
func opened(t *testing.T, client *backend.Client, directory string) (*Server, func()) {
	t.Helper()
	assert.NilError(t, cachefiles.DropDamaged(t.Context(), directory, []string{os.Args[0], "--check-database"}, time.Minute))
	built, err := worker.New(context.Background(), client, directory, worker.Limits{Context: worker.ContextLimits{Bytes: 1 << 20, Entries: 100}}, nil)
	assert.NilError(t, err)
	s, err := New(context.Background(), built, directory, 0, true)
	assert.NilError(t, err)
	return s, func() {
		assert.Check(t, s.Close())
		assert.Check(t, built.Close())
	}
}

func TestABuilderStartsAfterWritesOfTheHistoryWereLost(t *testing.T) {
	_, client := backendtest.Start(t)
	directory := t.TempDir()
	s, end := opened(t, client, directory)
	build := func(s *Server, count int) {
		t.Helper()
		for range count {
			assert.NilError(t, solved(s, "one", identity.NewID()))
			_, err := s.controller.Solve(t.Context(), &controlapi.SolveRequest{Ref: identity.NewID(), Frontend: identity.NewID()})
			assert.Check(t, err != nil, "an unknown frontend has built")
		}
	}
	build(s, 5)
	files := []string{"metadata.db", "history.db"}
	earlier := map[string][]byte{}
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(directory, file))
		assert.NilError(t, err)
		earlier[file] = data
	}
	build(s, 5)
	_, connect := served(t, s)
	control := connect()
	for _, record := range listed(t, control)[:5] {
		_, err := control.ControlClient().UpdateBuildHistory(t.Context(), &controlapi.UpdateBuildHistoryRequest{Ref: record.Ref, Delete: true})
		assert.NilError(t, err)
	}
	end()
	for seed, lost := range []float64{0.03, 0.1, 0.5, 0.5, 0.9, 1} {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		cut := filepath.Join(t.TempDir(), "cut")
		assert.NilError(t, os.CopyFS(cut, os.DirFS(directory)))
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(cut, file))
			assert.NilError(t, err)
			for at := 0; at < len(data); at += os.Getpagesize() {
				if random.Float64() < lost {
					page := data[at : at+os.Getpagesize()]
					clear(page)
					copy(page, earlier[file][min(at, len(earlier[file])):])
				}
			}
			assert.NilError(t, os.WriteFile(filepath.Join(cut, file), data, 0o600))
		}
		s, end := opened(t, client, cut)
		build(s, 1)
		_, connect := served(t, s)
		assert.Check(t, len(listed(t, connect())) >= 2)
		end()
	}
}

func TestAHugeRecordOfTheHistoryIsDropped(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	for ref, size := range map[string]int{"small": 1, "huge": maxHistoryRecord} {
		_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{
			Ref: ref, Frontend: "unknown", FrontendAttrs: map[string]string{"attribute": strings.Repeat("x", size)},
		})
		assert.Check(t, err != nil, "an unknown frontend has built")
	}
	records := listed(t, connect())
	if len(records) != 1 || records[0].Ref != "small" {
		t.Errorf("%d records", len(records))
	}
}

func TestListsOfTheHistoryThatNobodyReadsGiveWay(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	control := connect().ControlClient()
	build := func() {
		t.Helper()
		_, err := control.Solve(t.Context(), &controlapi.SolveRequest{
			Ref: identity.NewID(), Frontend: "unknown", FrontendAttrs: map[string]string{"attribute": strings.Repeat("x", 200_000)},
		})
		assert.Check(t, err != nil, "an unknown frontend has built")
	}
	for range 5 {
		build()
	}
	const unread = 5
	var lists []controlapi.Control_ListenBuildHistoryClient
	for at := range maxListings + unread {
		list, err := control.ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: at%2 == 1})
		assert.NilError(t, err)
		_, err = list.Header()
		assert.NilError(t, err)
		lists = append(lists, list)
	}
	gone := 0
	for _, list := range lists[:unread] {
		for {
			if _, err := list.Recv(); err != nil {
				assert.Check(t, is.ErrorContains(err, "too many lists of the history"))
				gone++
				break
			}
		}
	}
	assert.Check(t, is.Equal(gone, unread))
	assert.Check(t, is.Len(listed(t, connect()), 5))
	// One that follows has its list, and then what happens.
	last := lists[maxListings+unread-1]
	for range 5 {
		_, err := last.Recv()
		assert.NilError(t, err)
	}
	build()
	event, err := last.Recv()
	assert.NilError(t, err)
	assert.Check(t, is.Equal(event.Type, controlapi.BuildHistoryEventType_STARTED))
}

func TestAListOfTheHistoryOutlastsThoseOfAClientThatHasMost(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	const records = 3
	for range records {
		_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{
			Ref: identity.NewID(), Frontend: "unknown", FrontendAttrs: map[string]string{"attribute": strings.Repeat("x", 200_000)},
		})
		assert.Check(t, err != nil, "an unknown frontend has built")
	}
	list := func(of *client.Client) controlapi.Control_ListenBuildHistoryClient {
		t.Helper()
		made, err := of.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: true})
		assert.NilError(t, err)
		_, err = made.Header()
		assert.NilError(t, err)
		return made
	}
	oldest, many := list(connect()), connect()
	for range maxListings + 1 {
		list(many)
	}
	for range records {
		_, err := oldest.Recv()
		assert.NilError(t, err)
	}
	_, err := oldest.Recv()
	assert.Check(t, is.ErrorIs(err, io.EOF))
}

func TestWhoFollowsTheHistoryIsToldOnceOfABuildUnderWay(t *testing.T) {
	s, backend := running(t)
	_, connect := served(t, s)
	under, goOn := make(chan struct{}), make(chan struct{})
	backend.Before = func(procedure string) {
		if procedure == "LoadImage" {
			close(under)
			<-goOn
		}
	}
	control := connect().ControlClient()
	built := make(chan struct{})
	go func() {
		defer close(built)
		definition, err := definitionOf(t.Context(), llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)))
		assert.Check(t, err)
		_, err = control.Solve(t.Context(), &controlapi.SolveRequest{Ref: "built", Definition: definition})
		assert.Check(t, err)
	}()
	<-under
	list, err := control.ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{})
	assert.NilError(t, err)
	event, err := list.Recv()
	assert.NilError(t, err)
	assert.Check(t, is.Equal(event.Type, controlapi.BuildHistoryEventType_STARTED))
	close(goOn)
	event, err = list.Recv()
	assert.NilError(t, err)
	assert.Check(t, is.Equal(event.Type, controlapi.BuildHistoryEventType_COMPLETE))
	<-built
}

func TestARecordOfTheHistoryStaysWhereItsLeaseDoes(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: "a", Frontend: "unknown"})
	assert.Check(t, err != nil, "an unknown frontend has built")
	assert.NilError(t, s.worker.Close())
	s.history.limit = 0
	_, err = s.history.bound(t.Context())
	assert.Check(t, err != nil, "a lease is deleted in a closed database")
	assert.Check(t, is.Len(listed(t, connect()), 1))
}
