package shim

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// movesKept is how long cgroup moves are kept fast: processes come in series,
	// and a pause between two of them would make the next one wait too.
	movesKept = 500 * time.Millisecond
	// moveInterval is shorter than the 15 ms after which the kernel has to wait
	// again.
	moveInterval = 8 * time.Millisecond
)

// quickMoves spares a new process the wait of the first cgroup move after a
// pause: the kernel lets all readers of its lock finish first, for 3 to 20 ms,
// and skips that for some time after the last move. So this process moves itself
// in advance, while other work is done, into its own group, which changes
// nothing.
type quickMoves struct {
	mu    sync.Mutex
	until time.Time // moves are under way until then
}

// soon announces that a process will be moved.
func (q *quickMoves) soon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	underWay := now.Before(q.until)
	q.until = now.Add(movesKept)
	if !underWay {
		go q.run()
	}
}

// end means that no move will follow: the container's process exists or has
// ended.
func (q *quickMoves) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.until = time.Time{}
}

func (q *quickMoves) run() {
	own := ownCgroup()
	if own == "" {
		return
	}
	// Neither opened for each move nor an os.File, which would be polled: both
	// cost more than the moves.
	fd, err := unix.Open(own, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for q.isWanted() {
		// It may have been moved by now, but nobody does that for so short a
		// time.
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return
		}
		time.Sleep(moveInterval)
	}
}

func (q *quickMoves) isWanted() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.Now().Before(q.until)
}

// ownCgroup is the cgroup.procs of one of this process's groups; all hierarchies
// share one lock. Empty: none found.
func ownCgroup() string {
	mounts, err := cgroupMounts()
	if err != nil {
		return ""
	}
	paths, err := cgroupPaths("self")
	if err != nil {
		return ""
	}
	for _, hierarchy := range slices.Sorted(maps.Keys(paths)) {
		if mount := mounts[hierarchy]; mount != "" {
			return filepath.Join(mount, paths[hierarchy], "cgroup.procs")
		}
	}
	return ""
}
