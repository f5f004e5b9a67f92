// Package filelock waits for locks of flock(2), which a process may have that is
// about to end.
package filelock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how often somebody who waits looks whether a file is free.
const poll = 20 * time.Millisecond

// Lock waits until nobody else has the exclusive lock of a file, and takes it. It
// goes with the last descriptor of this opening of the file. When ctx ends before,
// it answers ctx's cause.
func Lock(ctx context.Context, file *os.File) error {
	retry := time.NewTicker(poll)
	defer retry.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return &os.PathError{Op: "flock", Path: file.Name(), Err: err}
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
