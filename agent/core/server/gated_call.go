package server

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless/agent/core/handover"
)

// takenPiece is the write size, so that progress within a message is visible.
const takenPiece = 64 << 10

// gatedCall is a pending call. For output it is also the response's writer.
type gatedCall struct {
	http.ResponseWriter
	ctx    context.Context
	cancel context.CancelCauseFunc
	under  *int
	over   chan struct{} // closed when its work must end, even if that outlives the caller

	written atomic.Uint64 // bytes accepted by the connection

	// The values at the last check.
	lastWritten uint64
	stall       handover.Stall
}

type overKey struct{}

func newGatedCall(w http.ResponseWriter, r *http.Request, under *int) *gatedCall {
	c := &gatedCall{ResponseWriter: w, under: under, over: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(context.WithValue(r.Context(), overKey{}, c.over))
	return c
}

// overOf returns a channel that is closed when a call is cut altogether; nil:
// never.
func overOf(call context.Context) <-chan struct{} {
	over, _ := call.Value(overKey{}).(chan struct{})
	return over
}

func (c *gatedCall) Write(data []byte) (written int, err error) {
	for {
		piece := data[:min(takenPiece, len(data))]
		n, err := c.ResponseWriter.Write(piece)
		written += n
		c.written.Add(uint64(n))
		data = data[len(piece):]
		if err != nil || len(data) == 0 {
			return written, err
		}
	}
}

// Flush implements http.Flusher for connect.
func (c *gatedCall) Flush() {
	if flusher, can := c.ResponseWriter.(http.Flusher); can {
		flusher.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (c *gatedCall) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// isSlow notes progress, and reports whether there was none for limit.
func (c *gatedCall) isSlow(now time.Time, limit time.Duration) bool {
	written := c.written.Load()
	progressed := written > c.lastWritten
	c.lastWritten = written
	return c.stall.Look(now, progressed) >= limit && c.ctx.Err() == nil
}

// cut ends the call, even while it waits for its caller. It is still pending.
func (c *gatedCall) cut() {
	c.cancel(ErrLeaving)
	past := time.Unix(1, 0)
	controller := http.NewResponseController(c.ResponseWriter)
	_ = controller.SetReadDeadline(past)
	_ = controller.SetWriteDeadline(past) // HTTP/2 resets the stream
}
