package log

// next takes the next whole record from the buffer and returns the part to
// deliver. ok is false if the buffer has no whole record.
func (r *Reader) next() (s selection, ok bool) {
	if r.buf == nil {
		return s, false
	}
	h, data, err := parseRecord(r.buf.unread())
	if err != nil {
		return s, false // fill reads it again, whole, and detects damage
	}
	if r.passed(h.time) {
		r.ended = true
		return s, false
	}
	s = r.choose(Position{r.at.segment.number, r.at.offset}, h, data)
	r.buf.start += int(h.size())
	r.at.offset += h.size()
	return s, true
}

// buffered delivers from the buffer, as much of one stream as fits in a chunk. An
// empty chunk means that the buffer must be filled.
func (r *Reader) buffered() Chunk {
	if r.options.Records {
		return r.records()
	}
	if r.options.Form != Recorded || r.options.Timestamps || r.options.Prefix != "" {
		return r.whole()
	}
	return r.joined()
}

// records delivers whole records with their framing, a large one in parts.
func (r *Reader) records() Chunk {
	if len(r.held.data) == 0 && r.buf != nil {
		start := r.buf.start
		for r.buf.start-start < MaxChunk {
			h, _, err := parseRecord(r.buf.unread())
			if err != nil {
				break // fill reads it again, whole, and detects damage
			}
			r.buf.start += int(h.size())
			r.at.offset += h.size()
		}
		r.held.data = r.buf.bytes[start:r.buf.start]
	}
	part := r.held.data[:min(len(r.held.data), MaxChunk)]
	r.held.data = r.held.data[len(part):]
	return Chunk{Data: part}
}

// joined removes the framing between consecutive records, in place.
func (r *Reader) joined() Chunk {
	var out []byte
	var stream Stream
	if len(r.held.data) > 0 {
		out, stream = r.held.data, r.held.stream
		r.held.data = nil
	}
	for {
		s, ok := r.next()
		if !ok {
			break
		}
		switch {
		case len(s.data) == 0:
		case len(out) == 0:
			out, stream = s.data, s.stream
		case s.stream != stream || len(out)+len(s.data) > MaxChunk:
			r.held = s
			return Chunk{stream, out}
		default:
			// out's capacity covers the framing up to s.data and beyond, so
			// append moves s.data within the buffer.
			out = append(out, s.data...)
		}
	}
	return Chunk{stream, out}
}
