package log

import (
	"io"
	"sync"
	"sync/atomic"
)

// Two sizes: a follower that has caught up holds little memory, one that reads
// in bulk holds a whole record of the largest size.
const (
	smallBuffer = 64 << 10
	largeBuffer = MaxRecord + recordFraming
)

// maxLarge is how many readers have a large buffer for speed. Beyond it only
// readers whose next record does not fit into a small one have one: readers may
// be hundreds, and their clients may not read.
const maxLarge = 8

// larges is how many large buffers are in use.
var larges atomic.Int64

var (
	smallBuffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, smallBuffer)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, largeBuffer)} }}
)

// buffer holds bytes of a log file that were read but not yet delivered.
type buffer struct {
	bytes      []byte
	start, end int
}

// newBuffer takes a buffer for reading pending bytes, a large one where that
// is of use and few have one.
func newBuffer(pending int64) *buffer {
	if pending > smallBuffer && larges.Load() < maxLarge {
		return newLargeBuffer()
	}
	b := smallBuffers.Get().(*buffer)
	b.clear()
	return b
}

// newLargeBuffer takes a buffer that every record fits into.
func newLargeBuffer() *buffer {
	larges.Add(1)
	b := largeBuffers.Get().(*buffer)
	b.clear()
	return b
}

func (b *buffer) release() {
	if b.isLarge() {
		larges.Add(-1)
		largeBuffers.Put(b)
	} else {
		smallBuffers.Put(b)
	}
}

func (b *buffer) isLarge() bool { return len(b.bytes) == largeBuffer }

// fits reports whether newBuffer would take none of another size.
func (b *buffer) fits(pending int64) bool {
	if b.isLarge() {
		return pending > smallBuffer && larges.Load() <= maxLarge
	}
	return pending <= smallBuffer || larges.Load() >= maxLarge
}

// cutsRecord reports whether it holds the beginning of a record that is larger
// than it.
func (b *buffer) cutsRecord() bool {
	h, err := parseHeader(b.unread())
	return err == nil && h.size() > int64(len(b.bytes))
}

func (b *buffer) unread() []byte { return b.bytes[b.start:b.end] }

func (b *buffer) clear() { b.start, b.end = 0, 0 }

// read replaces the content by the bytes of s from offset on, up to upTo or as
// many as fit.
func (b *buffer) read(s *segment, offset, upTo int64) error {
	b.clear()
	n, err := s.file.ReadAt(b.bytes[:min(int64(len(b.bytes)), upTo-offset)], offset)
	b.end = n
	if err == io.EOF {
		err = nil // somebody cut the file: what is missing shows as a torn record, not as the end
	}
	return err
}
