// Package log keeps the output of one container: append-only files of bounded
// size, written by the container's agent and read only by this package. The
// format is described in docs/formats.md.
//
// A record is one chunk as read from the process, so a chunk costs one system
// call; readers find lines when they need them.
package log

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDisabled fails reads of a log that keeps nothing.
var ErrDisabled = errors.New("configured logging driver does not support reading")

// Settings limit a log like Docker's json-file options.
type Settings struct {
	Disabled bool   // keep nothing (log driver "none")
	MaxSize  uint64 // bytes of a file, framing included; 0: no limit
	MaxFiles uint32 // files altogether, the oldest is dropped; 0 or 1: one file
	// Limit of bytes waiting to be written, so that Append never waits for a
	// disk: excess output is dropped in lines. nil: Append writes.
	BufferSize *uint64
}

// Recovery describes what Open found at the end of an earlier log.
type Recovery struct {
	CutBytes int64  // of a record that was being written when the writer died
	Damaged  string // path of a file that is damaged otherwise and was left as it is; empty: none
}

// Writer appends to a log. All methods may be called concurrently.
type Writer struct {
	dir      string
	settings Settings
	chain    *chain // nil when disabled
	fresh    [3]bool
	backlog  *backlog // nil: what is appended is written at once
}

// Open continues or creates the log in dir (created with mode 0700). An empty dir
// keeps the log in memory: then MaxSize must be set. A record left unfinished by
// a dying writer is cut off and reported.
func Open(dir string, settings Settings) (*Writer, Recovery, error) {
	var recovery Recovery
	w := &Writer{dir: dir, settings: settings}
	w.fresh[Stdout], w.fresh[Stderr] = true, true
	if settings.Disabled {
		return w, recovery, nil
	}
	if dir == "" {
		if settings.MaxSize == 0 {
			return nil, recovery, errors.New("a log in memory needs a size limit")
		}
		first, err := createSegment("", 1)
		if err != nil {
			return nil, recovery, err
		}
		w.chain = newChain([]*segment{first})
		w.startBacklog()
		return w, recovery, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, recovery, fmt.Errorf("make log directory: %w", err)
	}
	segments, err := openSegments(dir)
	if err != nil {
		return nil, recovery, err
	}
	segments, recovery, err = recoverLast(dir, segments)
	if err != nil {
		closeSegments(segments)
		return nil, recovery, err
	}
	w.chain = newChain(segments)
	w.dropSurplus()
	w.startBacklog()
	return w, recovery, nil
}

// recoverLast makes the last segment appendable.
func recoverLast(dir string, segments []*segment) ([]*segment, Recovery, error) {
	var recovery Recovery
	next := uint64(1)
	if len(segments) > 0 {
		last := segments[len(segments)-1]
		end, damaged, err := last.wholeRecords()
		if err != nil {
			return segments, recovery, err
		}
		if !damaged {
			recovery.CutBytes = last.size.Load() - end
			if err := last.file.Truncate(end); err != nil {
				return segments, recovery, fmt.Errorf("cut torn log record: %w", err)
			}
			last.size.Store(end)
			return segments, recovery, nil
		}
		recovery.Damaged = last.path
		next = last.number + 1
	}
	s, err := createSegment(dir, next)
	if err != nil {
		return segments, recovery, err
	}
	if len(segments) > 0 {
		segments[len(segments)-1].next = s
	}
	return append(segments, s), recovery, nil
}

// recordLimit is the maximum data of one record: longer chunks are split, over
// several files if their size requires it.
func (w *Writer) recordLimit() int {
	if w.settings.MaxSize == 0 {
		return maxWritten
	}
	room := int64(min(w.settings.MaxSize, smallBuffer)) - recordFraming
	return int(max(room, minRecordLimit))
}

// Append records one chunk without keeping data. After an error nothing of the
// chunk is in the log (of one above maxWritten, only whole parts). With a
// BufferSize the error is that of an earlier append.
func (w *Writer) Append(stream Stream, at time.Time, data []byte) error {
	if w.chain == nil {
		return nil
	}
	if w.backlog != nil {
		return w.backlog.add(stream, at, data)
	}
	return w.write(stream, at, data)
}

func (w *Writer) startBacklog() {
	if size := w.settings.BufferSize; size != nil {
		w.backlog = startBacklog(*size, w.write)
	}
}

func (w *Writer) write(stream Stream, at time.Time, data []byte) error {
	w.chain.mu.Lock()
	defer w.chain.mu.Unlock()
	limit := w.recordLimit()
	for len(data) > 0 {
		part := data[:min(len(data), limit)]
		if err := w.appendRecord(stream, at.UnixNano(), part); err != nil {
			return err
		}
		data = data[len(part):]
	}
	return nil
}

func (w *Writer) appendRecord(stream Stream, at int64, data []byte) error {
	if w.chain.closed {
		return fmt.Errorf("append to log: %w", os.ErrClosed)
	}
	size := int64(recordFraming + len(data))
	last := w.chain.last()
	if w.settings.MaxSize > 0 && last.size.Load() > 0 && uint64(last.size.Load()+size) > w.settings.MaxSize {
		next, err := createSegment(w.dir, last.number+1)
		if err != nil {
			return err
		}
		w.chain.append(next)
		w.dropSurplus()
		last = next
	}
	var flags uint8
	if w.fresh[stream] {
		flags |= flagFresh
	}
	if err := last.write(stream, flags, at, data); err != nil {
		return err
	}
	w.fresh[stream] = false
	w.chain.changed.Notify()
	return nil
}

// dropSurplus unlinks files beyond MaxFiles. chain.mu is held, or nobody else
// knows the chain yet.
func (w *Writer) dropSurplus() {
	if w.settings.MaxSize == 0 && w.settings.MaxFiles <= 1 {
		return // one file without limit never rotates
	}
	for len(w.chain.segments) > max(1, int(w.settings.MaxFiles)) {
		if s := w.chain.dropOldest(); s.path != "" {
			os.Remove(s.path) // a file that cannot be unlinked is dropped again at the next Open
		}
	}
}

// write appends one record, atomically.
func (s *segment) write(stream Stream, flags uint8, at int64, data []byte) error {
	var framing [recordFraming]byte
	encodeFraming(&framing, stream, flags, at, data)
	parts := [][]byte{framing[:headerSize], data, framing[headerSize:]}
	offset := s.size.Load()
	want := recordFraming + len(data)
	n, err := unix.Pwritev(int(s.file.Fd()), parts, offset)
	for err == unix.EINTR {
		n, err = unix.Pwritev(int(s.file.Fd()), parts, offset)
	}
	if err == nil && n < want {
		err = unix.ENOSPC
	}
	if err != nil {
		if terr := s.file.Truncate(offset); terr != nil {
			err = errors.Join(err, terr)
		}
		return fmt.Errorf("write log: %w", err)
	}
	s.size.Store(offset + int64(want))
	return nil
}

// Mark is a place in a log, perhaps not yet written.
type Mark struct {
	reached  chan struct{}
	position Position
}

// Wait returns the place once everything before it is written.
func (m *Mark) Wait(ctx context.Context) (Position, error) {
	select {
	case <-m.reached:
		return m.position, nil
	case <-ctx.Done():
		return Position{}, context.Cause(ctx)
	}
}

// End returns the place after all appended output. A caller that takes End and
// subscribes to live output under one lock of its own can replay up to it
// (ReadOptions.UpTo) without gap or repetition. End waits for a disk only if
// Append does.
func (w *Writer) End() *Mark {
	mark := &Mark{reached: make(chan struct{})}
	if w.chain == nil {
		close(mark.reached)
		return mark
	}
	w.backlog.behind(func() {
		w.chain.mu.Lock()
		defer w.chain.mu.Unlock()
		mark.position = w.chain.end()
		close(mark.reached)
	})
	return mark
}

// EndRun marks the end of the main process, with all its output appended:
// followers end once they have sent it. Append may continue with the next run's
// output. Like End it does not wait.
func (w *Writer) EndRun() {
	w.setEnded(true)
}

// BeginRun marks a (re)start of the main process: readers created from now on may
// follow, even while earlier output is still being written. A new Writer starts
// in a run.
func (w *Writer) BeginRun() {
	w.setEnded(false)
}

func (w *Writer) setEnded(ended bool) {
	if w.chain == nil {
		return
	}
	told := &w.chain.told
	told.mu.Lock()
	defer told.mu.Unlock()
	if ended && !told.ended {
		told.runs++
	}
	told.ended = ended
	runs := told.runs
	w.backlog.behind(func() {
		w.chain.mu.Lock()
		defer w.chain.mu.Unlock()
		if runs > w.chain.runs {
			w.chain.runs = runs
			w.chain.runEnd = w.chain.end()
		}
		w.fresh[Stdout], w.fresh[Stderr] = true, true
		w.chain.changed.Notify()
	})
}

// Close ends the log: followers end once they have sent everything, nothing more
// is appended, no new reader is created. The last reader closes the files.
// Closing again is harmless. With a BufferSize the error is that of an earlier
// append.
func (w *Writer) Close() error {
	if w.chain == nil {
		return nil
	}
	w.EndRun()
	err := w.backlog.close()
	w.chain.close()
	return err
}

// Reader reads the log from now on; see ReadOptions.
func (w *Writer) Reader(options ReadOptions) (*Reader, error) {
	if w.chain == nil {
		return nil, ErrDisabled
	}
	return newReader(w.chain, options, false)
}
