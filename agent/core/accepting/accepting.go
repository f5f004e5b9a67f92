// Package accepting accepts connections: after failures it pauses, and it can wait for
// places.
package accepting

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Pause is the wait after a failed accept (no descriptors left): each is logged.
const Pause = 250 * time.Millisecond

// Next returns a listener's next connection once it has one of the places, which the
// caller releases. Without places further ones wait to be accepted, but for this one.
// It fails with net.ErrClosed if ctx ends first; after other errors it pauses.
func Next[C net.Conn](ctx context.Context, places *semaphore.Weighted, accept func() (C, error)) (C, error) {
	conn, err := Patient(ctx, accept)
	if err == nil && !places.TryAcquire(1) && places.Acquire(ctx, 1) != nil {
		conn.Close()
		var none C
		return none, net.ErrClosed
	}
	return conn, err
}

// Patient returns a listener's next connection, without a place. After errors other than
// net.ErrClosed it pauses.
func Patient[C net.Conn](ctx context.Context, accept func() (C, error)) (C, error) {
	conn, err := accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		select {
		case <-time.After(Pause):
		case <-ctx.Done():
		}
	}
	return conn, err
}

// Serve serves connections as Next returns them until the listener is closed or ctx
// ends, and returns when all are served. It reports other errors.
func Serve[C net.Conn](ctx context.Context, places *semaphore.Weighted, accept func() (C, error), report func(error), serve func(C)) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := Next(ctx, places, accept)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			report(err)
			continue
		}
		serving.Add(1)
		go func() {
			defer serving.Done()
			defer places.Release(1)
			serve(conn)
		}()
	}
}
