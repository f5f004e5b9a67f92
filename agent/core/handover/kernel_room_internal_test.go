package handover

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestWhatTheKernelHoldsForTheClientsOfAProcessThatLeavesIsBounded(t *testing.T) {
	offers := NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	offers.Leave()
	const clients, usual = 12, 512 << 10
	held := make([]int, clients)
	var writing sync.WaitGroup
	for i := range clients {
		conn := pairOf(t)[1]
		ctx, cancel := context.WithCancelCause(t.Context())
		given := Give(Client{Conn: conn, Leaving: offers.leaving, offers: offers}, cancel)
		assert.NilError(t, conn.SetWriteDeadline(time.Now().Add(2*time.Second)))
		writing.Add(1)
		go func() {
			defer writing.Done()
			for piece := make([]byte, 64<<10); ctx.Err() == nil; {
				if _, err := given.Write(piece); err != nil {
					break
				}
			}
			held[i] = unread(conn)
			cancel(nil)
			_ = given.End(context.Canceled)
		}()
	}
	writing.Wait()
	sum, most := 0, 0
	for _, bytes := range held {
		sum, most = sum+bytes, max(most, bytes)
	}
	assert.Check(t, sum < 2*kernelRoomOfAll+clients*usual, "%d bytes of %v", sum, held)
	assert.Check(t, most > kernelRoom, "nobody may leave much: %v", held)
}
