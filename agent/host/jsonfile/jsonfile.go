// Package jsonfile keeps records as JSON, a file each, replaced in one step.
package jsonfile

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Read answers false if the file is missing or not whole: a crash of the
// machine can cut a file that was not synced.
func Read(path string, value any) (bool, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(content, value); err != nil {
		slog.Warn("a damaged record is not believed", "path", path, "error", err)
		return false, nil
	}
	return true, nil
}

// Write replaces the file in one step.
func Write(path string, value any) error { return closed(replace(path, value, false)) }

// WriteDurable is Write of what must survive a crash of the machine.
func WriteDurable(path string, value any) error { return closed(replace(path, value, true)) }

func closed(file *os.File, err error) error {
	if err != nil {
		return err
	}
	return file.Close()
}

// WriteSoonDurable is Write of what survives a crash of the machine a second or
// two later: nobody waits for the disk, which takes 1 to 30 ms and holds up who
// makes files meanwhile, unless many files wait for it already. After a crash
// before that the file may be missing, or empty.
func WriteSoonDurable(path string, value any) error {
	if err := Write(path, value); err != nil {
		return err
	}
	startSyncing()
	behind <- path
	return nil
}

// gathering is how long a file waits to be synced with others: most containers of
// a moment are gone by then, and their files need no sync. It is not open
// meanwhile: of one that is deleted nothing is left on disk.
const gathering = time.Second

// mostGathered bounds the files that are synced together, and those that wait
// behind them.
const mostGathered = 32

var (
	behind       = make(chan string, mostGathered)
	startSyncing = sync.OnceFunc(func() { go syncBehind() })
)

func syncBehind() {
	for first := range behind {
		for _, path := range gather(first) {
			if err := syncFile(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				slog.Error("a record may not survive a crash of the machine", "error", err)
			}
		}
	}
}

func gather(first string) []string {
	paths := []string{first}
	over := time.After(gathering)
	for len(paths) < mostGathered {
		select {
		case path := <-behind:
			paths = append(paths, path)
		case <-over:
			return paths
		}
	}
	return paths
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// replace answers the file that is there now, open.
func replace(path string, value any, durable bool) (*os.File, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(content)
	if err == nil && durable {
		err = file.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
