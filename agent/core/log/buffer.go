package log

import (
	"io"
	"sync"
)

// Two sizes: a follower that has caught up holds little memory, one that reads
// in bulk holds a whole record of the largest size.
const (
	smallBuffer = 64 << 10
	largeBuffer = MaxRecord + recordFraming
)

var (
	smallBuffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, smallBuffer)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, largeBuffer)} }}
)

// buffer holds bytes of a log file that were read but not yet delivered.
type buffer struct {
	bytes      []byte
	start, end int
}

// newBuffer takes a buffer that is fit for reading pending bytes.
func newBuffer(pending int64) *buffer {
	pool := &largeBuffers
	if pending <= smallBuffer {
		pool = &smallBuffers
	}
	b := pool.Get().(*buffer)
	b.clear()
	return b
}

func (b *buffer) release() {
	if len(b.bytes) == smallBuffer {
		smallBuffers.Put(b)
	} else {
		largeBuffers.Put(b)
	}
}

func (b *buffer) fits(pending int64) bool {
	return (pending <= smallBuffer) == (len(b.bytes) == smallBuffer)
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
