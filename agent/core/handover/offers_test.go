package handover_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
)

func TestOffersThatCloseLateLeaveTheirSuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hand.sock")
	first := handover.NewOffers(path, slog.Default())
	second := handover.NewOffers(path, slog.Default())
	defer second.Close()
	for _, offers := range []*handover.Offers{first, second} {
		_, err := offers.Make()
		assert.NilError(t, err)
	}
	first.Close()
	_, err := os.Stat(path)
	assert.NilError(t, err)
}
