package session

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// input is the standard input of a process, shared by its sessions. Until the
// process is there, writers wait.
type input struct {
	connected chan struct{} // closed when file and terminal are known
	file      *os.File      // nil: the process has no stdin of ours
	terminal  bool          // has no end of file of its own
	turn      chan struct{} // one writer at a time, whole chunks
	closeOnce sync.Once
}

func newInput() *input {
	return &input{connected: make(chan struct{}), turn: make(chan struct{}, 1)}
}

// connect says where input goes. It is called once.
func (in *input) connect(stdio Stdio) {
	in.file, in.terminal = stdio.Stdin, false
	if stdio.Terminal != nil {
		in.file, in.terminal = stdio.Terminal, true
	}
	close(in.connected)
}

// write hands data to the process, waiting as long as it does not read. Data
// for a process that has closed its stdin is dropped without an error, as by
// dockerd. An error means that ctx is done.
func (in *input) write(ctx context.Context, data []byte) error {
	select {
	case <-in.connected:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if in.file == nil {
		return nil
	}
	select {
	case in.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-in.turn }()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = in.file.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	_, err := in.file.Write(data)
	if !stop() {
		<-interrupted // the next writer must not find the deadline
		_ = in.file.SetWriteDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return nil
}

// closeIf closes the input once the process is there, if it may be closed.
func (in *input) closeIf(allowed func() bool) {
	go func() {
		<-in.connected
		if allowed() {
			in.close()
		}
	}()
}

// close gives the process end of file. A terminal has none: its other users
// go on, and the process sees nothing.
func (in *input) close() {
	in.closeOnce.Do(func() {
		go func() { // the process may not be there yet
			<-in.connected
			if in.file != nil && !in.terminal {
				in.file.Close()
			}
		}()
	})
}
