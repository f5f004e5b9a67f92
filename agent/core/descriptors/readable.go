package descriptors

import (
	"time"

	"golang.org/x/sys/unix"
)

// Readable waits until one of the descriptors can be read, or its other end has
// hung up: a pidfd, until its process has ended. False: none within the limit.
func Readable(limit time.Duration, fds ...int) (bool, error) {
	var wait []unix.PollFd
	for _, fd := range fds {
		wait = append(wait, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for deadline := time.Now().Add(limit); ; {
		ready, err := unix.Poll(wait, int(max(0, time.Until(deadline).Milliseconds())))
		if err != unix.EINTR {
			return ready > 0, err
		}
	}
}
