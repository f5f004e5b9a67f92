package shim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/shim/enter"
)

// waiter is how the process in the place of a spare's program is told of it. It
// has the other ends.
type waiter struct {
	theirs   []*os.File // until it is made
	tell     *os.File   // what to execute
	executed *os.File   // a byte once it waits, the end once it is something else
	record   *os.File   // why it is not
}

// newWaiter needs the program that is package enter alone: Go's package os, which
// the whole agent has, would change a limit.
func newWaiter() (_ *waiter, err error) {
	program := programBeside()
	if program == "" {
		return nil, fmt.Errorf("%w: the program that waits is missing", errNoSpare)
	}
	w := &waiter{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	binary, err := protectedBinary(program)
	if err != nil {
		return nil, err
	}
	w.theirs = []*os.File{binary}
	if w.record, err = newRecord(); err != nil {
		return nil, err
	}
	specification, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	w.tell, w.theirs = tell, append(w.theirs, specification)
	executed, executing, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	w.executed, w.theirs = executed, append(w.theirs, executing)
	return w, nil
}

// inherited are the files that it gets behind its streams.
func (w *waiter) inherited() []*os.File {
	if w == nil {
		return nil
	}
	binary, specification, executing := w.theirs[0], w.theirs[1], w.theirs[2]
	return []*os.File{specification, w.record, executing, binary}
}

func (w *waiter) closeTheirs() {
	for _, file := range w.theirs {
		file.Close()
	}
	w.theirs = nil
}

func (w *waiter) close() {
	w.closeTheirs()
	for _, file := range []*os.File{w.tell, w.executed, w.record} {
		if file != nil {
			file.Close()
		}
	}
}

// await returns once it waits. errNoSpare: with these settings it cannot.
func (w *waiter) await(child *children.Child, oom *oomCounter) error {
	if err := w.executed.SetReadDeadline(time.Now().Add(waiterLimit)); err != nil {
		return fmt.Errorf("wait for a spare's process: %w", err)
	}
	n, err := w.executed.Read(make([]byte, 1))
	if n == 1 {
		return w.executed.SetReadDeadline(time.Time{})
	}
	err = fmt.Errorf("a spare's process does not wait: %w", err)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	status, _ := child.Status()
	// It left by itself, or something of the container's own killed it. Anything
	// else may be the machine's, at this moment.
	if status.ExitStatus() == enter.NotExecuted || status.Signal() == unix.SIGSYS || oom.kills() > 0 {
		return fmt.Errorf("%w: %w", errNoSpare, err)
	}
	return err
}

// execute has it execute the program, and returns once it is that. An error:
// nothing of it ran, nor will, and the process has ended.
func (w *waiter) execute(spec *enter.Spec, child *children.Child) error {
	deadline := time.Now().Add(programLimit)
	err := errors.Join(w.tell.SetWriteDeadline(deadline), w.executed.SetReadDeadline(deadline))
	if err == nil {
		_, err = w.tell.Write(spec.Encode())
	}
	w.tell.Close()
	if err == nil {
		_, err = io.Copy(io.Discard, w.executed)
	}
	if !w.mayHaveRun() {
		_ = child.Signal(unix.SIGKILL) // gone already, as likely as not
		child.Status()
		if !w.mayHaveRun() { // nor has it meanwhile
			return errors.Join(errNothingRan, err)
		}
	}
	if err != nil {
		slog.Warn("a spare's command is not yet executed", "error", err)
	}
	return nil
}

// mayHaveRun tells whether the process came to its program. One that was killed
// right then has a status that says so.
func (w *waiter) mayHaveRun() bool {
	var data [enter.RecordSize]byte
	_, err := w.record.ReadAt(data[:], 0)
	return err != nil || enter.ParseRecord(data[:]).Kind == enter.RecordForking
}
