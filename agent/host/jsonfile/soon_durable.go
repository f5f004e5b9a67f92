package jsonfile

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/sockerless/sockerless/agent/host/batch"
)

// WriteSoonDurable is Write for records that survive a crash of the machine after
// a second or two. The caller does not wait for the disk, which takes 1 to 30 ms
// and delays others that create files, unless many files are already queued.
// After an earlier crash the file may be missing, or empty.
func WriteSoonDurable(path string, value any) error { return writeBefore(unsynced, path, value) }

// Settle waits until everything from WriteSoonDurable is on disk, for at most
// farewell: for a process that is about to exit.
func Settle() { unsynced.Settle(farewell) }

const (
	// gathering is how long a file waits to be synced with others: most
	// containers are gone by then, and their files need no sync. It is not open
	// meanwhile, so that deleting it leaves nothing on disk.
	gathering = time.Second
	// mostGathered bounds the files synced together, and those queued behind
	// them.
	mostGathered = 32
	farewell     = time.Second
)

var unsynced = newSyncer(gathering, (*os.File).Sync)

// newSyncer returns a queue of file paths to sync.
func newSyncer(gathering time.Duration, sync func(*os.File) error) *batch.Queue {
	return batch.New(gathering, mostGathered, func(paths []string) {
		for _, path := range paths {
			if err := syncFile(path, sync); err != nil && !errors.Is(err, os.ErrNotExist) {
				slog.Error("a record may not survive a crash of the machine", "error", err)
			}
		}
	})
}

func writeBefore(syncer *batch.Queue, path string, value any) error {
	if err := Write(path, value); err != nil {
		return err
	}
	syncer.Add(path)
	return nil
}

func syncFile(path string, sync func(*os.File) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(sync(file), file.Close())
}
