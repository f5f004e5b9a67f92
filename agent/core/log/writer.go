// Package log keeps the output of one container: append-only files of bounded
// size, written by the container's agent and read only by this package. The
// format is described in docs/formats.md.
//
// A record is one chunk as it was read from the process, so writing costs one
// system call a chunk; lines are found by the reader, when somebody asks for
// them.
package log

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDisabled answers a read of a log that keeps nothing.
var ErrDisabled = errors.New("configured logging driver does not support reading")

// Settings bound a log, with the meaning of Docker's json-file options.
type Settings struct {
	Disabled bool   // keep nothing (log driver "none")
	MaxSize  uint64 // bytes of a file, framing included; 0: no limit
	MaxFiles uint32 // files altogether, the oldest is dropped; 0 or 1: one file
	// Bytes that may wait to be written, so that Append never waits for a disk:
	// output beyond is dropped, by lines. nil: Append writes.
	BufferSize *uint64
}

// Recovery tells what Open found at the end of an earlier log.
type Recovery struct {
	CutBytes int64  // of a record that was being written when the writer died
	Damaged  string // path of a file that is damaged otherwise and was left as it is; empty: none
}

// Writer appends to a log. All methods may be called at once.
type Writer struct {
	dir      string
	settings Settings
	chain    *chain // nil when disabled
	fresh    [3]bool
	backlog  *backlog // nil: what is appended is written at once
}

// Open continues the log in dir, or begins it (the directory is made, mode
// 0700). An empty dir keeps the log in memory: then MaxSize must be set. A
// record that a dying writer left unfinished is cut off and reported.
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
	segments, err := openSegments(dir, os.O_RDWR)
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

// recoverLast makes the last segment one that can be appended to.
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

// recordLimit is the most data of one record: what was written at once goes into
// several files where it has to, for the sake of their size.
func (w *Writer) recordLimit() int {
	if w.settings.MaxSize == 0 {
		return maxWritten
	}
	room := int64(min(w.settings.MaxSize, smallBuffer)) - recordFraming
	return int(max(room, minRecordLimit))
}

// Append records one chunk. data is not kept. After an error nothing of the
// chunk is in the log (of a chunk above maxWritten, no more than whole parts).
// With a BufferSize the error is one of what was appended before.
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

// dropSurplus unlinks what is more than MaxFiles. chain.mu is held, or nobody
// else knows the chain yet.
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

// write appends one record, whole or not at all.
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

// Mark is a place in a log, which may still have to be written up to there.
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

// End is the place after what was appended; later appends lie behind it. A
// caller that takes End and subscribes to live output under one lock of its own
// can replay up to it (ReadOptions.UpTo) with no gap and no repetition. End
// itself does not wait for a disk where Append does not.
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

// EndRun says that the main process has ended and all its output is appended:
// followers end once they have sent it. Append may go on afterwards with the
// next run's output. Like End it does not wait.
func (w *Writer) EndRun() {
	w.setEnded(true)
}

// BeginRun says that the main process is (re)started: readers made from now on
// may follow, also where what was appended before is still being written. A new
// Writer has begun.
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

// Close ends the log: followers end once they have sent all, nothing more is
// appended, no new reader is made. The files are closed when the last reader
// leaves. It may be called twice. The error is one of what was appended with a
// BufferSize.
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
