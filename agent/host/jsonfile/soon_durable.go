package jsonfile

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// WriteSoonDurable is Write of what survives a crash of the machine a second or
// two later: nobody waits for the disk, which takes 1 to 30 ms and holds up who
// makes files meanwhile, unless many files wait for it already. After a crash
// before that the file may be missing, or empty.
func WriteSoonDurable(path string, value any) error { return behind.write(path, value) }

// Settle waits until all is safe on disk that WriteSoonDurable has written, or
// for a moment: for a process that leaves.
func Settle() { behind.settle(farewell) }

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

var behind = newSyncer(gathering, (*os.File).Sync)

// syncer syncs files behind those who wrote them.
type syncer struct {
	gathering time.Duration
	sync      func(*os.File) error
	paths     chan string
	leaving   chan chan struct{} // each is closed once what was written before is synced
	start     func()
}

func newSyncer(gathering time.Duration, syncFile func(*os.File) error) *syncer {
	s := &syncer{gathering: gathering, sync: syncFile, paths: make(chan string, mostGathered), leaving: make(chan chan struct{})}
	s.start = sync.OnceFunc(func() { go s.run() })
	return s
}

func (s *syncer) write(path string, value any) error {
	if err := Write(path, value); err != nil {
		return err
	}
	s.start()
	s.paths <- path
	return nil
}

func (s *syncer) settle(limit time.Duration) {
	s.start()
	over := time.After(limit)
	settled := make(chan struct{})
	select {
	case s.leaving <- settled:
	case <-over:
		return
	}
	select {
	case <-settled:
	case <-over:
	}
}

func (s *syncer) run() {
	for {
		paths, settled := s.gather()
		for _, path := range paths {
			if err := s.syncFile(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				slog.Error("a record may not survive a crash of the machine", "error", err)
			}
		}
		if settled != nil {
			close(settled)
		}
	}
}

// gather answers the files that are due, and who waits for all of them, if anybody.
func (s *syncer) gather() (paths []string, settled chan struct{}) {
	var over <-chan time.Time // once there is a file
	for len(paths) < mostGathered {
		select {
		case path := <-s.paths:
			paths = append(paths, path)
			if over == nil {
				over = time.After(s.gathering)
			}
		case <-over:
			return paths, nil
		case settled = <-s.leaving:
			for len(s.paths) > 0 {
				paths = append(paths, <-s.paths)
			}
			return paths, settled
		}
	}
	return paths, nil
}

func (s *syncer) syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(file), file.Close())
}
