package descriptors

import (
	"time"

	"golang.org/x/sys/unix"
)

// Readable waits until a descriptor is readable or hung up; a pidfd is readable
// once its process has ended. It returns false after the limit.
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
