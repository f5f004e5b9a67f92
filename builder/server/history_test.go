package server

import (
	"io"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

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
