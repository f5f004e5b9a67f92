// Package filelock waits for flock(2) locks that an exiting process may still
// hold.
package filelock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Share opens a file or directory, and takes its shared lock, which closing it
// releases. It fails while another process has the exclusive lock.
func Share(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return file, nil
}

// poll is the interval between attempts.
const poll = 20 * time.Millisecond

// Lock waits for the exclusive lock of a file and takes it. Closing the last
// descriptor of this open file releases it. If ctx ends first, Lock returns its
// cause.
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
