package session

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// spliceMost is more than a connection holds.
const spliceMost = 1 << 20

// splice moves what a socket holds to the process within the kernel, waiting as
// long as the process does not read. It answers how much that was, and whether
// there may be more of it: a process has no pipe of ours or has closed its stdin
// otherwise, or the kernel has refused, and what comes is write's. An error means
// that ctx is done.
//
// Bytes that were taken from the socket are in the process's pipe. With a pipe in
// between, as Go's own splicing has it, some would be lost, and not counted, when
// the process closes its stdin.
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

// hasRoom returns whether a pipe has room, or nobody who reads.
func hasRoom(pipe uintptr) bool {
	asked := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLOUT}}
	for {
		if n, err := unix.Poll(asked, 0); err != unix.EINTR {
			return n != 0
		}
	}
}
