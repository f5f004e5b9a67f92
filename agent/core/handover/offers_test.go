package handover_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockerless/sockerless/agent/core/handover"
)

func TestOffersThatCloseLateLeaveTheirSuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hand.sock")
	first := handover.NewOffers(path, slog.Default())
	second := handover.NewOffers(path, slog.Default())
	defer second.Close()
	for _, offers := range []*handover.Offers{first, second} {
		if _, err := offers.Make(); err != nil {
			t.Fatal(err)
		}
	}
	first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}
