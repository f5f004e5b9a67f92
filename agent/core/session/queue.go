package session

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// queueLimit is how much output is queued for a slow client before the
	// process has to wait, about as in dockerd; queueLeast is what remains of it
	// when many slow clients use up queuedTotal.
	queueLimit  = 1 << 20
	queueLeast  = 64 << 10
	queuedTotal = 16 << 20
	// maxSegment bounds one Output message; the contract allows 1 MiB.
	maxSegment = 256 << 10
)

// stream is one of a process's outputs.
type stream uint8

const (
	stdout stream = iota
	stderr
)

// segment is output of one stream that travels as one message.
type segment struct {
	stream stream
	data   []byte
}

// segmentBuffers holds the large buffers, which are worth reusing.
var segmentBuffers = sync.Pool{New: func() any { return new([maxSegment]byte) }}

// queued is the number of bytes in all queues.
var queued atomic.Int64

// roomOfOne is the current limit of one queue.
func roomOfOne() int { return int(min(max((queuedTotal-queued.Load())/4, queueLeast), queueLimit)) }

// queue holds the messages for one session in order: output, then the last
// message. Consecutive output of one stream is coalesced. Any number of
// producers, one consumer.
type queue struct {
	mu       sync.Mutex
	room     sync.Cond     // segments were taken, or waiting for room is over
	ready    chan struct{} // holds a token when the consumer should look
	segments []segment
	size     int
	final    *agentv1.SessionResponse
	closed   bool      // nobody reads any more
	ended    bool      // final was handed out
	lent     []byte    // data of the last returned message
	offsets  [2]uint64 // of the consumer's next byte of each stream
}

func newQueue() *queue {
	q := &queue{ready: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// push appends a copy of data. It waits while the queue is full and unlimited
// returns false; call awaken when its result changes.
func (q *queue) push(s stream, data []byte, unlimited func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.size >= roomOfOne() && !q.closed && !unlimited() {
		q.room.Wait()
	}
	if q.closed || q.final != nil {
		return
	}
	for len(data) > 0 {
		n := q.extend(s, data)
		data = data[n:]
		q.size += n
		queued.Add(int64(n))
	}
	q.wake()
}

// extend appends as much of data as fits into the last segment, or starts one.
func (q *queue) extend(s stream, data []byte) int {
	if last := len(q.segments) - 1; last >= 0 && q.segments[last].stream == s {
		seg := &q.segments[last]
		if n := min(len(data), maxSegment-len(seg.data)); n > 0 {
			seg.data = grow(seg.data, n)
			seg.data = append(seg.data, data[:n]...)
			return n
		}
	}
	n := min(len(data), maxSegment)
	q.segments = append(q.segments, segment{stream: s, data: append(grow(nil, n), data[:n]...)})
	return n
}

// grow makes room for n more bytes: small data gets a buffer of its size, larger
// data a pooled one.
func grow(data []byte, n int) []byte {
	need := len(data) + n
	if need <= cap(data) {
		return data
	}
	if need <= 8<<10 {
		return append(make([]byte, 0, max(need, 512)), data...)
	}
	return append(segmentBuffers.Get().(*[maxSegment]byte)[:0], data...)
}

// recycle returns a segment's buffer to the pool.
func recycle(data []byte) {
	if cap(data) == maxSegment {
		segmentBuffers.Put((*[maxSegment]byte)(data[:maxSegment]))
	}
}

// awaken makes producers check again whether they must wait.
func (q *queue) awaken() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.room.Broadcast()
}

// finish appends the last message. Only the first call counts.
func (q *queue) finish(final *agentv1.SessionResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.final == nil {
		q.final = final
		q.room.Broadcast()
		q.wake()
	}
}

// close drops everything: the consumer is gone.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, seg := range q.segments {
		recycle(seg.data)
	}
	queued.Add(-int64(q.size))
	q.segments, q.size = nil, 0
	q.room.Broadcast()
	q.wake()
}

// next waits for the next message. Its data is valid until the next call.
// io.EOF follows the last message.
func (q *queue) next(ctx context.Context) (*agentv1.SessionResponse, error) {
	for {
		response, err := q.take()
		if response != nil || err != nil {
			return response, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (q *queue) take() (*agentv1.SessionResponse, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	recycle(q.lent)
	q.lent = nil
	switch {
	case q.closed || q.ended:
		return nil, io.EOF
	case len(q.segments) > 0:
		return q.takeSegment(), nil
	case q.final != nil:
		q.ended = true
		return q.final, nil
	}
	return nil, nil
}

func (q *queue) takeSegment() *agentv1.SessionResponse {
	seg := q.segments[0]
	if q.segments = q.segments[1:]; len(q.segments) == 0 {
		q.segments = nil // releases the array behind the slice
	}
	q.size -= len(seg.data)
	queued.Add(-int64(len(seg.data)))
	q.lent = seg.data
	q.room.Broadcast()
	return q.output(seg.stream, seg.data)
}

// output builds the message for the consumer's next bytes of one stream.
func (q *queue) output(s stream, data []byte) *agentv1.SessionResponse {
	output := &agentv1.Output{Offset: q.offsets[s], Data: data}
	q.offsets[s] += uint64(len(data))
	if s == stderr {
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Stderr{Stderr: output}}
	}
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Stdout{Stdout: output}}
}
