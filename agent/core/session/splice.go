package session

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// spliceMost exceeds what a connection holds.
const spliceMost = 1 << 20

// splice moves data from a socket to the process within the kernel, and blocks
// while that does not read. It returns the number of bytes, and whether it can
// move more; if not (the process has no pipe of ours, has closed its stdin, or
// the kernel has refused), the rest is for write. It fails only when ctx is done.
//
// Bytes taken from the socket are in the process's pipe. With a pipe in between,
// as in Go's own splicing, some would be lost, uncounted, when the process closes
// its stdin.
func (in *input) splice(ctx context.Context, socket int) (moved int, able bool, err error) {
	if err := in.await(ctx); err != nil || in.file == nil || in.terminal {
		return 0, false, err
	}
	pipe, err := in.file.SyscallConn()
	if err != nil {
		return 0, false, nil
	}
	err = in.alone(ctx, func() error {
		for full := false; ; {
			var n int64
			var failure error
			closed := pipe.Control(func(fd uintptr) {
				n, failure = unix.Splice(socket, nil, int(fd), nil, spliceMost, unix.SPLICE_F_NONBLOCK)
			})
			switch {
			case closed == nil && errors.Is(failure, unix.EINTR):
			case closed == nil && errors.Is(failure, unix.EAGAIN) && !full: // the socket holds something
				full = true
				failure = in.interruptibly(ctx, func() error { return pipe.Write(hasRoom) })
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			default:
				moved, able = max(0, int(n)), closed == nil && failure == nil
				return nil
			}
		}
	})
	return moved, able, err
}

// hasRoom reports whether a pipe has room or no reader.
func hasRoom(pipe uintptr) bool {
	asked := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLOUT}}
	for {
		if n, err := unix.Poll(asked, 0); err != unix.EINTR {
			return n != 0
		}
	}
}
