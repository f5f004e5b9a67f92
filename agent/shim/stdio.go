package shim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/session"
)

// outputPipeSize lets a process run ahead of its readers; a pipe has 64 KiB
// unless told otherwise.
const outputPipeSize = 1 << 20

// wiring is the standard streams of a process that is to be started: the
// process's side and ours.
type wiring struct {
	child [3]*os.File
	ours  session.Stdio
}

// wirePipes makes pipes for the streams that are wanted; the others are the
// null device.
func wirePipes(streams session.Streams) (_ *wiring, err error) {
	w := &wiring{}
	defer func() {
		if err != nil {
			w.closeChild()
			w.ours.Close()
		}
	}()
	if streams.Stdin {
		if w.child[0], w.ours.Stdin, err = pipe(true); err != nil {
			return nil, err
		}
	}
	if streams.Stdout {
		if w.child[1], w.ours.Stdout, err = pipe(false); err != nil {
			return nil, err
		}
	}
	if streams.Stderr {
		if w.child[2], w.ours.Stderr, err = pipe(false); err != nil {
			return nil, err
		}
	}
	for i := range w.child {
		if w.child[i] == nil {
			if w.child[i], err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// pipe makes a pipe whose child side blocks, as programs expect, and whose own
// side is pollable.
func pipe(childReads bool) (child, own *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	childFD, ownFD := fds[1], fds[0]
	if childReads {
		childFD, ownFD = fds[0], fds[1]
	} else {
		// Refused where too many pipes are this large: the default will do.
		_, _ = unix.FcntlInt(uintptr(ownFD), unix.F_SETPIPE_SZ, outputPipeSize)
	}
	if err := unix.SetNonblock(ownFD, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(childFD), "stdio"), os.NewFile(uintptr(ownFD), "stdio"), nil
}

// closeChild closes the process's side, once the process has it.
func (w *wiring) closeChild() {
	for _, file := range w.child {
		if file != nil {
			file.Close()
		}
	}
}
