package server

import (
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
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
