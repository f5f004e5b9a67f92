package log

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// backlog queues output to be written, so that Append need not wait. Output that
// does not fit is dropped in whole lines.
type backlog struct {
	write func(stream Stream, at time.Time, data []byte) error
	limit uint64

	mu        sync.Mutex
	changed   sync.Cond
	waiting   []chunk
	size      uint64 // of what waits
	writing   bool
	closed    bool
	failure   error // of a write: until an add has returned it and a later write has succeeded
	recovered bool  // the last write succeeded
	lines     [3]lineProgress
}

type chunk struct {
	stream Stream
	at     time.Time
	data   []byte
	behind func() // instead of data: called at this place in the queue
}

// lineProgress is the state of a stream's current line.
type lineProgress struct {
	open    bool // what was taken last has no line's end
	dropped bool // the line that goes on was dropped
}

func startBacklog(limit uint64, write func(Stream, time.Time, []byte) error) *backlog {
	b := &backlog{write: write, limit: limit}
	b.changed.L = &b.mu
	go b.run()
	return b
}

// add queues a copy of data, or of as much as there is room for. The error is
// that of an earlier chunk, returned by every add until a write succeeds again.
func (b *backlog) add(stream Stream, at time.Time, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fmt.Errorf("append to log: %w", os.ErrClosed)
	}
	if taken := b.fit(&b.lines[stream], data); len(taken) > 0 {
		b.waiting = append(b.waiting, chunk{stream: stream, at: at, data: bytes.Clone(taken)})
		b.size += uint64(len(taken))
		b.changed.Broadcast()
	}
	err := b.failure
	if b.recovered {
		b.failure = nil
	}
	return err
}

// fit returns the part of data to queue. An empty queue takes anything, so that
// something is recorded with any limit.
func (b *backlog) fit(line *lineProgress, data []byte) []byte {
	if line.dropped {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return nil
		}
		line.dropped = false
		if !line.open { // else its begin is queued, and ends with this newline
			end++
		}
		data = data[end:]
	}
	if len(data) == 0 {
		return nil
	}
	if b.size > 0 && b.size+uint64(len(data)) > b.limit {
		room := b.limit - min(b.size, b.limit)
		whole := bytes.LastIndexByte(data[:room], '\n') + 1
		line.dropped = data[len(data)-1] != '\n'
		data = data[:whole]
		if len(data) == 0 {
			// The rest of a queued line's begin is dropped up to its own end.
			line.dropped = line.dropped || line.open
			return nil
		}
	}
	line.open = data[len(data)-1] != '\n'
	return data
}

func (b *backlog) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for len(b.waiting) == 0 && !b.closed {
			b.changed.Wait()
		}
		if len(b.waiting) == 0 {
			return
		}
		next := b.waiting[0]
		b.waiting[0] = chunk{}
		b.waiting = b.waiting[1:]
		b.size -= uint64(len(next.data))
		b.writing = true
		b.mu.Unlock()
		var err error
		if next.behind != nil {
			next.behind()
		} else {
			err = b.write(next.stream, next.at, next.data)
		}
		b.mu.Lock()
		b.writing = false
		if next.behind == nil {
			b.recovered = err == nil
		}
		if err != nil {
			b.failure = err
		}
		b.changed.Broadcast()
	}
}

// behind calls do once everything added until now is written: before it returns
// if that is the case already, else later. do must not wait for a disk.
func (b *backlog) behind(do func()) {
	if b == nil {
		do()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 && !b.writing {
		do()
		return
	}
	b.waiting = append(b.waiting, chunk{behind: do})
}

// flush waits until everything added is written.
func (b *backlog) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 || b.writing {
		b.changed.Wait()
	}
}

// close writes the queue and accepts no more. The error is that of an earlier
// chunk.
func (b *backlog) close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	b.closed = true
	b.changed.Broadcast()
	b.mu.Unlock()
	b.flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.failure
	b.failure = nil
	return err
}
