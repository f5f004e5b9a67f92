package handover

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// bulk is the number of bytes that a connection must hold to be spliced. A pipe
// has few slots, each for a piece of any size, and only written pieces can share
// one: with small spliced pieces a process that does not read would soon fill the
// pipe. A connection can hold this much only in pieces of 8 KiB and more, as the
// kernel charges each piece more than its bytes. The docker CLI sends 32 KiB at
// once.
const bulk = 128 << 10

// input moves the client's bytes to the process until the client detaches or
// leaves, or the session ends.
func (c *carrier) input() {
	if err := c.readInput(); err != nil {
		c.endInput(err)
	}
}

// readInput moves the client's bytes to the process. It returns the error that
// ends them, io.EOF if the client has closed its half; nil if nothing more is to be
// read.
func (c *carrier) readInput() error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	keys := NewScanner(c.way.DetachKeys)
	take := func(data []byte) bool {
		c.carried.InputBytes += uint64(len(data))
		memory.Moved(len(data))
		if !c.way.Stdin {
			return true
		}
		pass, detached := keys.Scan(data)
		if len(pass) > 0 && c.session.WriteStdin(c.ctx, pass) != nil {
			return false
		}
		if detached {
			c.cancel(errDetached)
			_ = c.client.Conn.SetWriteDeadline(time.Unix(1, 0)) // ends a pending write
		}
		return !detached
	}
	if len(c.client.Early) > 0 && !take(c.client.Early) {
		return nil
	}
	c.client.Early = nil
	read := c.client.Conn.Read
	if raw, err := c.client.Conn.SyscallConn(); err == nil && c.way.Stdin && len(c.way.DetachKeys) == 0 {
		read = c.splicing(raw)
	}
	for {
		n, err := read(buffer[:])
		if n > 0 && !take(buffer[:n]) {
			return nil
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// splicing returns how to read a client's connection by splicing large input to
// the process, if its bytes need not be inspected.
func (c *carrier) splicing(raw syscall.RawConn) func([]byte) (int, error) {
	able := true
	return func(buffer []byte) (n int, err error) {
		// Go's poller reports new data, not present data: it is consulted once
		// the connection is empty.
		closed := raw.Read(func(fd uintptr) bool {
			for able && c.ctx.Err() == nil {
				held, failure := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
				if failure != nil || held < bulk {
					break
				}
				var moved int
				moved, able, err = c.session.SpliceStdin(c.ctx, int(fd))
				c.carried.InputBytes += uint64(moved)
				if err != nil {
					return true
				}
			}
			n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), buffer) })
			return !errors.Is(err, unix.EAGAIN)
		})
		switch {
		case closed != nil:
			return 0, closed
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func ignoringEINTR(do func() (int, error)) (n int, err error) {
	for n, err = do(); errors.Is(err, unix.EINTR); n, err = do() {
	}
	return n, err
}

func (c *carrier) endInput(err error) {
	c.mu.Lock()
	c.inputEnded = true
	gone := c.deaf || !errors.Is(err, io.EOF)
	c.mu.Unlock()
	if c.way.Stdin {
		c.session.CloseStdin()
	}
	if gone || AwaitHangUp(c.client.Conn) {
		c.session.Leave()
	}
}

// AwaitHangUp waits until the peer closes its connection. It reads nothing, and
// nothing may be read meanwhile. It returns false if a deadline or a close of this end ends the wait.
func AwaitHangUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	// Go's poller reports each change of a connection's state.
	return raw.Read(isHungUp) == nil
}

// isHungUp distinguishes a peer that is gone from one that sends no more but may
// read.
func isHungUp(fd uintptr) bool {
	state := []unix.PollFd{{Fd: int32(fd)}}
	_, err := ignoringEINTR(func() (int, error) { return unix.Poll(state, 0) })
	return err == nil && state[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
