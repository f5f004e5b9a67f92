// Package netns runs work inside network namespaces.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// New stands for a namespace that is made for the work.
const New = -1

// Inside runs work on a thread inside a network namespace, New or that of an open
// descriptor. Sockets that it opens stay there. Go's scheduler gets the thread
// back only if it has returned to the namespace that it came from.
func Inside(namespace int, work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, unless it is back
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer own.Close()
		if namespace == New {
			err = unix.Unshare(unix.CLONE_NEWNET)
		} else {
			err = unix.Setns(namespace, unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = work()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
