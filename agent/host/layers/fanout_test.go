package layers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A client that reads no more holds up a fan-out for as long as it likes.
func TestFanOutsThatNobodyReadsHoldABoundedMemory(t *testing.T) {
	const many, mostBytes = 100, 200 << 20
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	for range many {
		go func() {
			ended <- fanOut(ctx, zeros{},
				func(r io.Reader) error {
					_, err := io.Copy(io.Discard, r)
					return err
				},
				func(io.Reader) error {
					<-ctx.Done()
					return nil
				})
		}()
	}
	held := heldWhenStill(t)
	assert.Check(t, held < mostBytes, "%d MiB", held>>20)

	content := bytes.Repeat([]byte("another's"), 1<<20)
	var copied [2]bytes.Buffer
	err := fanOut(t.Context(), bytes.NewReader(content),
		func(r io.Reader) error { _, err := io.Copy(&copied[0], r); return err },
		func(r io.Reader) error { _, err := io.Copy(&copied[1], r); return err })
	assert.NilError(t, err)
	for _, each := range copied {
		assert.Check(t, bytes.Equal(each.Bytes(), content), "another one")
	}

	left := errors.New("the client has left")
	cancel(left)
	for range many {
		assert.ErrorIs(t, <-ended, left)
	}
	assert.Equal(t, blocksInUse.Load(), int64(0), "blocks that nobody has")
}

// heldWhenStill returns the heap's bytes once they grow no more.
func heldWhenStill(t *testing.T) (held uint64) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		var now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > held+1<<20 {
			held = now.HeapAlloc
			return poll.Continue("%d bytes", held)
		}
		return poll.Success()
	}, poll.WithDelay(200*time.Millisecond))
	return held
}
