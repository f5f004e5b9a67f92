// Package background runs long computations that yield the processors to what
// users wait for.
package background

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// niceness gives a thread a tenth of a usual one's share.
const niceness = 10

// Go runs f on a thread of its own, with low priority.
func Go(f func()) {
	go func() {
		// Still locked at the end of the goroutine, so that the thread ends with it.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness) // of this thread
		f()
	}()
}
