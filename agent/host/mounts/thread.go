package mounts

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs work on a thread that ends with it, and so may have a mount
// namespace and a working directory of its own. It is never the process's first,
// which does not end, and whose mounts /proc/self shows.
func onThread[T any](work func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and mostly never unlocked
		var r result
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			r.value, r.err = onThread(work)
		} else {
			r.value, r.err = work()
		}
		done <- r
	}()
	r := <-done
	return r.value, r.err
}
