package session

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// input is a process's standard input, shared by its sessions. Writers wait until
// the process exists.
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

// connect sets the destination of the input. It is called once.
func (in *input) connect(stdio Stdio) {
	in.file, in.terminal = stdio.Stdin, false
	if stdio.Terminal != nil {
		in.file, in.terminal = stdio.Terminal, true
	}
	close(in.connected)
}

// write writes data to the process, and blocks while that does not read. Data for
// a process that has closed its stdin is dropped without an error, as by dockerd.
// It fails only when ctx is done.
func (in *input) write(ctx context.Context, data []byte) error {
	if err := in.await(ctx); err != nil || in.file == nil {
		return err
	}
	return in.alone(ctx, func() error {
		err := in.interruptibly(ctx, func() error {
			_, err := in.file.Write(data)
			return err
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return context.Cause(ctx)
		}
		return nil
	})
}

// await waits until the process exists. It fails only when ctx is done.
func (in *input) await(ctx context.Context) error {
	select {
	case <-in.connected:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// alone runs do as the only writer. It returns do's error, or ctx's.
func (in *input) alone(ctx context.Context, do func() error) error {
	select {
	case in.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-in.turn }()
	return do()
}

// interruptibly runs do, which waits for the process to read. It fails with
// os.ErrDeadlineExceeded once ctx is done.
func (in *input) interruptibly(ctx context.Context, do func() error) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = in.file.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := do()
	if !stop() {
		<-interrupted // the next writer must not inherit the deadline
		_ = in.file.SetWriteDeadline(time.Time{})
	}
	return err
}

// closeIf closes the input once the process exists, if that is allowed then.
func (in *input) closeIf(allowed func() bool) {
	go func() {
		<-in.connected
		if allowed() {
			in.close()
		}
	}()
}

// close sends the process end of file. A terminal has none: its other users
// continue, and the process sees nothing.
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
