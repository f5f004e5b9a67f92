// Package stdio creates the standard streams of a process that an agent starts:
// the process's ends and the agent's.
package stdio

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/session"
)

// outputPipeSize lets a process run ahead of its readers; a pipe's default is 64
// KiB.
const outputPipeSize = 1 << 20

// inputPipeSize lets a process read more at once than a client sends at once.
const inputPipeSize = 256 << 10

// Wiring holds the standard streams of one process.
type Wiring struct {
	Child [3]*os.File   // what the process inherits as 0, 1 and 2
	Ours  session.Stdio // the agent's side, pollable
}

// CloseChild closes the process's ends, once the process has inherited them.
func (w *Wiring) CloseChild() {
	for i, file := range w.Child {
		if file != nil {
			file.Close()
		}
		w.Child[i] = nil
	}
}

// Close closes both ends.
func (w *Wiring) Close() {
	w.CloseChild()
	w.Ours.Close()
}

// Pipes connects the wanted streams to pipes, and the others to the null device
// that openNull opens.
func Pipes(streams session.Streams, openNull func() (*os.File, error)) (_ *Wiring, err error) {
	w := &Wiring{}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if streams.Stdin {
		if w.Child[0], w.Ours.Stdin, err = pipe(true); err != nil {
			return nil, err
		}
	}
	if streams.Stdout {
		if w.Child[1], w.Ours.Stdout, err = pipe(false); err != nil {
			return nil, err
		}
	}
	if streams.Stderr {
		if w.Child[2], w.Ours.Stderr, err = pipe(false); err != nil {
			return nil, err
		}
	}
	for i := range w.Child {
		if w.Child[i] == nil {
			if w.Child[i], err = openNull(); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// OpenNull opens the null device of the agent's mount namespace.
func OpenNull() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) }

// pipe makes a pipe whose child end blocks, as programs expect, and whose own end
// is pollable.
func pipe(childReads bool) (child, own *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	childFD, ownFD := fds[1], fds[0]
	size := outputPipeSize
	if childReads {
		childFD, ownFD, size = fds[0], fds[1], inputPipeSize
	}
	// Refused if too many pipes are this large: the default will do.
	_, _ = unix.FcntlInt(uintptr(ownFD), unix.F_SETPIPE_SZ, size)
	if err := unix.SetNonblock(ownFD, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(childFD), "stdio"), os.NewFile(uintptr(ownFD), "stdio"), nil
}

// Terminal makes a pseudo-terminal in the agent's mount namespace. The process
// must make it its controlling terminal itself.
func Terminal() (*Wiring, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	w := &Wiring{Ours: session.Stdio{Terminal: os.NewFile(uintptr(master), "terminal")}}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("unlock a pseudo-terminal: %w", err)
	}
	for i := range w.Child {
		slave, err := unix.Open("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("open a pseudo-terminal's other side: %w", err)
		}
		w.Child[i] = os.NewFile(uintptr(slave), "terminal")
	}
	return w, nil
}
