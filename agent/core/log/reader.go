package log

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sockerless/sockerless/agent/core/damage"
)

// MaxChunk bounds the data of one Chunk.
const MaxChunk = 1 << 20

// ReadOptions select what a Reader delivers.
type ReadOptions struct {
	Stdout bool
	Stderr bool
	// Follow waits for further output of the current run. Without it the reader
	// ends where the log ended at its creation.
	Follow bool
	// Timestamps prefixes each line with its time and a space. A line's time is
	// that of the record in which it began.
	Timestamps bool
	// Prefix is put before each line, after its time.
	Prefix string
	Since  *int64 // Unix ns, inclusive: lines that began then or later
	Until  *int64 // Unix ns, inclusive: lines that began then or earlier
	// Tail is a number of lines from the end; nil: all. Lines of both streams
	// count, even unselected ones, as with Docker.
	Tail *uint64
	// Form is the form of delivered lines.
	Form Form
	// Records delivers both streams' records as they are in the files: the
	// chunks' concatenated data is a log file. The chunks then have no stream,
	// and of the other options only Follow and UpTo apply.
	Records bool
	// UpTo ends the reader at a place from Writer.End; it excludes Follow.
	UpTo *Position
}

// Chunk is output of one stream, or frames. Data is never empty, at most MaxChunk bytes,
// and valid until the next call of Next.
type Chunk struct {
	Stream Stream
	Data   []byte
}

// CorruptError reports a log file that is damaged, or was removed before it was read (errRotated). Next may be called
// again and continues with the next whole record.
type CorruptError struct {
	File   string
	Offset int64
	Reason error
}

func (e *CorruptError) Error() string {
	if errors.Is(e.Reason, errRotated) {
		return fmt.Sprintf("log file %s %v, from byte %d on", e.File, e.Reason, e.Offset)
	}
	return fmt.Sprintf("log file %s is damaged at byte %d: %v", e.File, e.Offset, e.Reason)
}

func (e *CorruptError) Unwrap() error { return e.Reason }

var errRotated = errors.New("was removed by rotation before it was read")

// Reader delivers a log in order. It is for one goroutine.
type Reader struct {
	chain    *chain
	owns     bool // the chain is this reader's alone and closed with it
	options  ReadOptions
	at       cursor
	lines    [3]lineState
	starts   *tailStarts // nil: from the beginning
	buf      *buffer
	held     selection // of the last record, to be delivered first
	out      []byte    // lines with their heads
	open     [3]openLine
	stamp    timestamp
	ended    bool
	deadline time.Time
}

// Stored opens the log of a stopped container. The Reader must be closed. A
// missing log counts as empty.
func Stored(dir string, options ReadOptions) (*Reader, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 {
		return &Reader{ended: true}, nil
	}
	var file oneOpen
	for _, s := range segments {
		s.stored = &file
	}
	last := segments[len(segments)-1]
	end, damaged, err := last.wholeRecords()
	if err != nil {
		closeSegments(segments)
		return nil, err
	}
	if !damaged {
		last.size.Store(end) // a torn record is not part of the log
	}
	c := newChain(segments)
	c.told.ended = true
	r, err := newReader(c, options, true)
	if err != nil {
		c.close()
	}
	return r, err
}

// maxPrefix bounds ReadOptions.Prefix.
const maxPrefix = 64 << 10

func newReader(c *chain, options ReadOptions, owns bool) (*Reader, error) {
	if len(options.Prefix) > maxPrefix {
		return nil, fmt.Errorf("log line prefix of %d bytes, at most %d are allowed", len(options.Prefix), maxPrefix)
	}
	r := &Reader{chain: c, owns: owns, options: options}
	c.told.mu.Lock()
	told, isOver := c.told.runs, c.told.ended
	c.told.mu.Unlock()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("read log: %w", os.ErrClosed)
	}
	end := c.end()
	r.at = cursor{segment: c.segments[0], run: told}
	segments := append([]*segment(nil), c.segments...)
	switch {
	case !options.Follow, isOver && c.runs >= told:
		r.at.limit = &end
	case isOver:
		r.at.run = told - 1 // it has ended but is not written yet
	}
	c.readers++
	c.mu.Unlock()
	if options.UpTo != nil {
		r.at.limit = options.UpTo
		end = *options.UpTo
	}
	if options.Until != nil && options.Follow {
		r.deadline = time.Unix(0, *options.Until).Add(1)
	}
	if options.Tail != nil {
		r.starts = findTail(segments, end, *options.Tail)
		r.at.segment, r.at.offset = r.starts.first()
	}
	return r, nil
}

// Close releases the log's files; closing again is harmless.
func (r *Reader) Close() {
	r.ended, r.held, r.out, r.open = true, selection{}, nil, [3]openLine{}
	if r.buf != nil {
		r.buf.release()
		r.buf = nil
	}
	if r.chain != nil {
		r.chain.leave()
		if r.owns {
			r.chain.close()
		}
		r.chain = nil
	}
}

// Next returns the next output, io.EOF at the end, a *CorruptError where the log
// is damaged or has lost files to rotation, or ctx's cause.
func (r *Reader) Next(ctx context.Context) (Chunk, error) {
	for {
		if chunk := r.buffered(); len(chunk.Data) > 0 {
			return chunk, nil
		}
		if r.ended {
			return Chunk{}, io.EOF
		}
		if err := r.fill(ctx); err != nil {
			return Chunk{}, err
		}
	}
}

// fill reads more records, switches to the next file or finds the end.
func (r *Reader) fill(ctx context.Context) error {
	if r.starts != nil && r.starts.damage != nil {
		lost := r.starts.damage
		r.starts.damage = nil
		return lost
	}
	upTo, next, done, err := r.chain.await(ctx, &r.at, r.deadline)
	switch {
	case err != nil:
		return err
	case done:
		r.ended = true
		return nil
	case r.at.offset >= upTo:
		r.at.segment, r.at.offset = next, 0
		return nil
	}
	if pending := upTo - r.at.offset; r.buf == nil || !r.buf.fits(pending) {
		if r.buf != nil {
			r.buf.release()
		}
		r.buf = newBuffer(pending)
	}
	err = r.buf.read(r.at.segment, r.at.offset, upTo)
	if err == nil && r.buf.cutsRecord() {
		r.buf.release()
		r.buf = newLargeBuffer()
		err = r.buf.read(r.at.segment, r.at.offset, upTo)
	}
	if errors.Is(err, os.ErrClosed) {
		// Rotation overtook the reader: continue with the oldest file. Only a follower is not told, as with Docker.
		lost := &CorruptError{r.at.segment.path, r.at.offset, errRotated}
		r.chain.mu.Lock()
		r.at.segment, r.at.offset = r.chain.segments[0], 0
		r.chain.mu.Unlock()
		if r.options.Follow {
			return nil
		}
		return lost
	}
	if err != nil && !damage.IsOf(err) {
		return fmt.Errorf("read log: %w", err)
	}
	if _, _, torn := parseRecord(r.buf.unread()); torn != nil {
		lost := &CorruptError{r.at.segment.path, r.at.offset, cmp.Or(err, torn)}
		r.buf.clear()
		r.at.offset = r.at.segment.resync(r.at.offset+1, upTo)
		return lost
	}
	return nil
}
