// Package zstdstream decompresses zstd within a bounded memory. A frame of a few
// kilobytes can demand a window of any size for as long as its sender likes, so
// that windows are counted in each process.
package zstdstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

const (
	// largestWindow is that of `zstd --ultra --long`, and what libzstd accepts
	// without being asked for more.
	largestWindow = 128 << 20
	// usualWindow holds those of all levels without --ultra, and of other encoders.
	usualWindow = 32 << 20
	// room is for the windows of one process, counted as usual or largest ones.
	room = 1 << 30
)

// ErrNoRoom is returned for a stream while others have all the room.
var ErrNoRoom = errors.New("too many zstd streams are being decompressed: try again later")

// ErrWindow is returned for a frame with too large a window.
var ErrWindow = errors.New("window size exceeded")

// Room holds the windows of streams.
type Room struct{ free *semaphore.Weighted }

func newRoom() *Room { return &Room{semaphore.NewWeighted(room)} }

var (
	// Clients has the streams whose sender or receiver decides how long they last.
	Clients = newRoom()
	// Files has those that depend on nobody, so that each gets its turn.
	Files = newRoom()
)

// Open returns the decompressed stream, or ErrNoRoom. The caller closes it.
// concurrency is the decoder's; one that is above 1 reads ahead.
func (r *Room) Open(in *bufio.Reader, concurrency int) (io.ReadCloser, error) {
	window := windowOf(in)
	if !r.free.TryAcquire(window) {
		return nil, ErrNoRoom
	}
	return r.open(in, window, concurrency)
}

// OpenInTurn is Open for a stream that waits for its room until ctx ends.
func (r *Room) OpenInTurn(ctx context.Context, in *bufio.Reader, concurrency int) (io.ReadCloser, error) {
	window := windowOf(in)
	if err := r.free.Acquire(ctx, window); err != nil {
		return nil, context.Cause(ctx)
	}
	return r.open(in, window, concurrency)
}

func (r *Room) open(in io.Reader, window int64, concurrency int) (io.ReadCloser, error) {
	decoder, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(uint64(window)), zstd.WithDecoderConcurrency(concurrency), zstd.WithDecoderLowmem(true))
	if err != nil {
		r.free.Release(window)
		return nil, err
	}
	return &stream{decoder, r, window}, nil
}

// windowOf returns the bytes to count for a stream: its first frame tells its
// window, and a later frame may have no larger one.
func windowOf(in *bufio.Reader) int64 {
	start, _ := in.Peek(zstd.HeaderMaxSize) // a shorter stream has a shorter header
	var header zstd.Header
	if err := header.Decode(start); err == nil && (header.Skippable || header.WindowSize > usualWindow || header.SingleSegment && header.FrameContentSize > usualWindow) {
		return largestWindow
	}
	return usualWindow
}

type stream struct {
	decoder *zstd.Decoder
	room    *Room
	window  int64
}

func (s *stream) Read(into []byte) (int, error) {
	n, err := s.decoder.Read(into)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = fmt.Errorf("%w: at most %d bytes are accepted, and %d behind a smaller one", ErrWindow, largestWindow, usualWindow)
	}
	return n, err
}

// Close may be called repeatedly.
func (s *stream) Close() error {
	s.decoder.Close()
	s.room.free.Release(s.window)
	s.window = 0
	return nil
}
