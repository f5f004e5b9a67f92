package log

import (
	"io"
	"sync"
	"sync/atomic"
)

// Two sizes: a follower that has caught up needs little memory, a bulk reader a
// whole record of the largest size.
const (
	smallBuffer = 64 << 10
	largeBuffer = MaxRecord + recordFraming
)

// maxLarge is how many readers get a large buffer for speed. Beyond it only
// readers with a record too large for a small buffer get one: there may be
// hundreds of readers whose clients do not read.
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

// newBuffer returns a buffer for reading pending bytes: a large one if it helps
// and few are in use.
func newBuffer(pending int64) *buffer {
	if pending > smallBuffer && larges.Load() < maxLarge {
		return newLargeBuffer()
	}
	b := smallBuffers.Get().(*buffer)
	b.clear()
	return b
}

// newLargeBuffer returns a buffer for any record.
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

// fits reports whether newBuffer would return a buffer of the same size.
func (b *buffer) fits(pending int64) bool {
	if b.isLarge() {
		return pending > smallBuffer && larges.Load() <= maxLarge
	}
	return pending <= smallBuffer || larges.Load() >= maxLarge
}

// cutsRecord reports whether the buffer holds only the beginning of a record
// larger than itself.
func (b *buffer) cutsRecord() bool {
	h, err := parseHeader(b.unread())
	return err == nil && h.size() > int64(len(b.bytes))
}

func (b *buffer) unread() []byte { return b.bytes[b.start:b.end] }

func (b *buffer) clear() { b.start, b.end = 0, 0 }

// read replaces the content by the bytes of s from offset to upTo, or as many as
// fit.
func (b *buffer) read(s *segment, offset, upTo int64) error {
	b.clear()
	n, err := s.readAt(b.bytes[:min(int64(len(b.bytes)), upTo-offset)], offset)
	b.end = n
	if err == io.EOF {
		err = nil // the file was truncated: the missing part shows as a torn record, not as the end
	}
	return err
}
