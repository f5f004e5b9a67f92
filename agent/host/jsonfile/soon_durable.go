package jsonfile

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/sockerless/sockerless/agent/host/batch"
)

// WriteSoonDurable is Write of what survives a crash of the machine a second or
// two later: nobody waits for the disk, which takes 1 to 30 ms and holds up who
// makes files meanwhile, unless many files wait for it already. After a crash
// before that the file may be missing, or empty.
func WriteSoonDurable(path string, value any) error { return writeBefore(unsynced, path, value) }

// Settle waits until all is safe on disk that WriteSoonDurable has written, or
// for a moment: for a process that leaves.
func Settle() { unsynced.Settle(farewell) }

const (
	// gathering is how long a file waits to be synced with others: most containers of
	// a moment are gone by then, and their files need no sync. It is not open
	// meanwhile: of one that is deleted nothing is left on disk.
	gathering = time.Second
	// mostGathered bounds the files that are synced together, and those that wait
	// behind them.
	mostGathered = 32
	farewell     = time.Second
)

var unsynced = newSyncer(gathering, (*os.File).Sync)

// newSyncer makes a queue of paths of files.
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
