package server

import (
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/identity"
	"gotest.tools/v3/assert"
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
