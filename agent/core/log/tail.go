package log

import (
	"bytes"
	"errors"
	"os"
)

// start is where one stream's delivery begins: in the record at position, after
// its first skip bytes.
type start struct {
	position Position
	skip     int
}

// tailStarts is where the last lines begin.
type tailStarts struct {
	segment *segment
	offset  int64
	streams [3]start
	damage  *CorruptError // before the beginning, not yet told; nil: none
}

func (t *tailStarts) first() (*segment, int64) { return t.segment, t.offset }

func (t *tailStarts) of(stream Stream) start { return t.streams[stream] }

// tailSearch walks backwards over the records before end, counting lines.
type tailSearch struct {
	left   uint64
	starts [3]start
	inLine [3]bool // walking within a line that is delivered and whose begin is not yet known
}

// findTail finds the beginning of the last n lines before end. It reads no
// further back. After a damage the tail begins behind it.
func findTail(segments []*segment, end Position, n uint64) *tailStarts {
	t := tailSearch{left: n}
	none := start{position: end}
	t.starts[Stdout], t.starts[Stderr] = none, none
	at := &tailStarts{segment: segments[0]}
	pooled := newBuffer(0)
	defer pooled.release()
	buf := pooled.bytes
walk:
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		if s.number > end.segment {
			continue
		}
		offset := s.size.Load()
		if s.number == end.segment {
			offset = end.offset
		}
		at.segment, at.offset = s, offset
		for offset > 0 {
			if t.done() {
				break walk
			}
			before, record, err := s.recordBefore(offset, buf)
			if errors.Is(err, os.ErrClosed) {
				break walk // rotation overtook the search
			}
			if err != nil {
				at.damage = &CorruptError{s.path, offset - 1, err}
				break walk
			}
			buf = record
			h, data, _ := parseRecord(record)
			t.visit(Position{s.number, before}, h, data)
			offset = before
			at.offset = before
		}
	}
	at.streams = t.starts
	return at
}

// done reports whether the beginning of every delivered line is known.
func (t *tailSearch) done() bool {
	return t.left == 0 && !t.inLine[Stdout] && !t.inLine[Stderr]
}

// visit handles the record before those visited so far.
func (t *tailSearch) visit(at Position, h header, data []byte) {
	stream := h.stream
	if data[len(data)-1] == '\n' {
		t.inLine[stream] = false // the line walked within began with the stream's next record
	}
	for rest := len(data); rest > 0; {
		// Bytes up to rest belong to a line that ends there or later.
		if !t.inLine[stream] {
			if t.left == 0 {
				return
			}
			t.left--
			t.inLine[stream] = true
		}
		newline := bytes.LastIndexByte(data[:rest-1], '\n')
		t.starts[stream] = start{position: at, skip: newline + 1}
		if newline < 0 {
			// The line began at this record's first byte or earlier; the stream's
			// previous record shows which.
			break
		}
		t.inLine[stream] = false
		rest = newline + 1
	}
	if h.fresh() {
		t.inLine[stream] = false
	}
}
