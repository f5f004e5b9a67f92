package log

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Form is the form in which a Reader delivers lines.
type Form uint8

const (
	// Recorded delivers output as it was written, unfinished lines included; with
	// heads before lines it is Lines.
	Recorded Form = iota
	// Lines delivers only whole lines, in the order of their ends: an unfinished
	// one is held until it, its run or the reading ends. A line longer than 16
	// KiB is delivered in pieces of that size, each with a head.
	Lines
	// Framed delivers Lines with Docker's header before each; chunks hold whole
	// frames.
	Framed
)

// Frames is the stream of chunks that hold frames.
const Frames Stream = 3

const (
	// maxPiece is the length at which dockerd splits a line.
	maxPiece = 16 << 10
	// frameHead is the length of Docker's header: stream, three zeros, big-endian
	// length.
	frameHead = 8
	// wholeChunk is how much is collected for a chunk; it fits a core's cache.
	wholeChunk = 256 << 10
	// smallChunk is the same for readers with a small buffer.
	smallChunk = 32 << 10
)

// openLine is a line whose end has not been read yet.
type openLine struct {
	begun bool
	time  int64  // of its first record
	data  []byte // that was not delivered
}

// timestamp is the last formatted one, since a record's lines share it.
type timestamp struct {
	time int64
	text []byte
}

// whole delivers whole lines; an empty chunk means that there is none yet.
func (r *Reader) whole() Chunk {
	limit := r.wholeLimit()
	out, stream := r.out[:0], Stream(0)
	for len(out) < limit {
		if len(r.held.data) == 0 && !r.held.fresh {
			s, ok := r.next()
			if !ok {
				if r.ended {
					out, stream = r.unfinished(out, stream)
				}
				break
			}
			r.held = s
			continue
		}
		if !r.joins(stream, r.held.stream) {
			break
		}
		before := len(out)
		out = r.takeLine(out, &r.held, limit)
		if len(out) > before {
			stream = r.held.stream
		}
	}
	r.out = out
	if len(out) == 0 && (r.buf == nil || !r.buf.isLarge()) {
		r.out = nil // a follower that has caught up needs little memory
	}
	if r.options.Form == Framed {
		stream = Frames
	}
	return Chunk{stream, out}
}

// wholeLimit is how much is collected: there may be hundreds of readers, and
// frames may be five times as large as their lines.
func (r *Reader) wholeLimit() int {
	if r.buf == nil || r.buf.isLarge() {
		return wholeChunk
	}
	return smallChunk
}

// joins reports whether a line of stream s may be added to a chunk of stream
// chunk; 0: none yet.
func (r *Reader) joins(chunk, s Stream) bool {
	return r.options.Form == Framed || chunk == 0 || chunk == s
}

// takeLine moves a line, or a part of one, out of s, and to out once it can be
// delivered, until out has limit bytes.
func (r *Reader) takeLine(out []byte, s *selection, limit int) []byte {
	open := &r.open[s.stream]
	if s.fresh {
		s.fresh = false
		out = r.finish(out, s.stream)
	}
	if !open.begun {
		out = r.copyFrames(out, s, limit)
	}
	if len(s.data) == 0 || len(out) >= limit {
		return out
	}
	if !open.begun {
		open.begun, open.time = true, s.time
	}
	room := maxPiece - len(open.data)
	end := bytes.IndexByte(s.data[:min(len(s.data), room)], '\n') + 1
	switch {
	case end > 0:
		open.begun = false
	case len(s.data) >= room:
		end = room
	default:
		open.data = append(open.data, s.data...)
		s.data = nil
		return out
	}
	out = r.appendLine(out, s.stream, open.time, open.data, s.data[:end])
	open.data = open.data[:0]
	s.data = s.data[end:]
	return out
}

// copyFrames is the fast path for whole lines that need only a frame, as most do.
func (r *Reader) copyFrames(out []byte, s *selection, limit int) []byte {
	if r.options.Form != Framed || r.options.Timestamps || r.options.Prefix != "" {
		return out
	}
	for len(out) < limit {
		end := bytes.IndexByte(s.data[:min(len(s.data), maxPiece)], '\n') + 1
		if end == 0 {
			break
		}
		out = append(out, byte(s.stream), 0, 0, 0, 0, 0, byte(end>>8), byte(end))
		out = append(out, s.data[:end]...)
		s.data = s.data[end:]
	}
	return out
}

// finish delivers a stream's unfinished line, which will get no end.
func (r *Reader) finish(out []byte, stream Stream) []byte {
	open := &r.open[stream]
	if len(open.data) > 0 {
		out = r.appendLine(out, stream, open.time, open.data, nil)
	}
	*open = openLine{}
	return out
}

// unfinished delivers the lines without an end, after everything else.
func (r *Reader) unfinished(out []byte, stream Stream) ([]byte, Stream) {
	for _, each := range []Stream{Stdout, Stderr} {
		if len(r.open[each].data) > 0 && r.joins(stream, each) {
			out, stream = r.finish(out, each), each
		}
	}
	return out, stream
}

// appendLine appends a line, given in two parts, with its head.
func (r *Reader) appendLine(out []byte, stream Stream, at int64, begin, end []byte) []byte {
	start := len(out)
	if r.options.Form == Framed {
		out = append(out, byte(stream), 0, 0, 0, 0, 0, 0, 0)
	}
	if r.options.Timestamps {
		if len(r.stamp.text) == 0 || r.stamp.time != at {
			r.stamp.time = at
			r.stamp.text = append(time.Unix(0, at).UTC().AppendFormat(r.stamp.text[:0], timestampFormat), ' ')
		}
		out = append(out, r.stamp.text...)
	}
	out = append(out, r.options.Prefix...)
	out = append(out, begin...)
	out = append(out, end...)
	if r.options.Form == Framed {
		binary.BigEndian.PutUint32(out[start+4:], uint32(len(out)-start-frameHead))
	}
	return out
}
