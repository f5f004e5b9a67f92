package layers

import (
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
	"gotest.tools/v3/assert"
)

func TestLayersThatUnpackForLongKeepOthersFromTheirTurnForAWhileOnly(t *testing.T) {
	t.Parallel()
	s := &Store{unpacking: semaphore.NewWeighted(mostUnpacks), unpackingLong: semaphore.NewWeighted(mostLongUnpacks)}
	var ends []func()
	began := time.Now()
	for range mostUnpacks + 1 {
		end, err := s.turn(t.Context())
		assert.NilError(t, err)
		ends = append(ends, end)
	}
	assert.Check(t, time.Since(began) >= longestTurn)
	for _, end := range ends {
		end()
	}
	for turns, most := range map[*semaphore.Weighted]int64{s.unpacking: mostUnpacks, s.unpackingLong: mostLongUnpacks} {
		assert.Check(t, turns.TryAcquire(most), "a turn was not given back")
	}
}
