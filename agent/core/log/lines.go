package log

import "bytes"

// timestampFormat is Docker's: RFC 3339 with nine digits.
const timestampFormat = "2006-01-02T15:04:05.000000000Z"

// lineState is a stream's state between two records.
type lineState struct {
	open    bool // the last record ended within a line
	include bool // that line is delivered
}

// selection is the part of a record's data to deliver.
type selection struct {
	stream Stream
	time   int64
	data   []byte
	fresh  bool // the stream's earlier line has ended with its run
}

// choose applies the options to one record. The result is always one piece: the
// rest of an earlier line, the lines that begin here, or both.
func (r *Reader) choose(at Position, h header, data []byte) selection {
	s := selection{stream: h.stream, time: h.time, fresh: h.fresh()}
	state := &r.lines[h.stream]
	if h.fresh() {
		state.open = false
	}
	if h.stream == Stdout && !r.options.Stdout || h.stream == Stderr && !r.options.Stderr {
		return s
	}
	if r.starts != nil {
		start := r.starts.of(h.stream)
		if at.before(start.position) {
			return s
		}
		if at == start.position {
			data = data[start.skip:]
			state.open = false
		}
	}
	begin := 0 // of the lines that begin in this record
	if state.open {
		begin = bytes.IndexByte(data, '\n') + 1
		if begin == 0 {
			begin = len(data)
		}
	}
	include := r.inTime(h.time)
	from, to := 0, len(data)
	if begin > 0 && !state.include {
		from = begin
	}
	if begin < len(data) && !include {
		to = begin
	}
	s.data = data[from:max(from, to)]
	if begin < len(data) {
		state.include = include
	}
	if len(data) > 0 {
		state.open = data[len(data)-1] != '\n'
	}
	return s
}

func (r *Reader) inTime(t int64) bool {
	return (r.options.Since == nil || t >= *r.options.Since) && (r.options.Until == nil || t <= *r.options.Until)
}

// passed reports whether a record of time t and all later ones are past Until,
// with no selected line still open.
func (r *Reader) passed(t int64) bool {
	if r.options.Until == nil || t <= *r.options.Until {
		return false
	}
	for _, stream := range []Stream{Stdout, Stderr} {
		if r.lines[stream].open && r.lines[stream].include {
			return false
		}
	}
	return true
}
