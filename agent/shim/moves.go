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
	// movesKept is how long moves into control groups are kept quick: processes
	// come in series, and a wait between two of them makes the next one wait too,
	// as the kernel has forgotten the first by then.
	movesKept = 500 * time.Millisecond
	// moveInterval is shorter than the 15 ms after which the kernel forgets.
	moveInterval = 8 * time.Millisecond
)

// quickMoves spares a process that is about to be made the wait of the first
// move into a control group after a pause: the kernel lets everybody who reads
// its lock go by first, for 3 to 20 ms, and remembers it for some after the last
// move. So moves are made ahead, while there is other work to be done, of this
// process into the group that it is in, which changes nothing.
type quickMoves struct {
	mu    sync.Mutex
	until time.Time // somebody is at it up to then
}

// soon says that a process will be moved.
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

// end says that no process will be: the container's has been made, or has ended.
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
	// Neither opened for each move nor an os.File, which would be polled: both took
	// more time than the moves.
	fd, err := unix.Open(own, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for q.isWanted() {
		// It may have been moved by now, but for so short a time nobody does.
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

// ownCgroup is the cgroup.procs of a group that this process is in; one lock is
// for all hierarchies. Empty: none is found.
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
