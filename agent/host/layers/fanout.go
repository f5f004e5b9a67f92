package layers

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/sockerless/sockerless/agent/core/background"
)

const (
	blockSize = 256 << 10
	// blocksAhead is how far one reader of a fan-out may run ahead of the other.
	blocksAhead = 16
)

// fanOut copies a source to concurrent readers. The slowest sets the pace; the
// first failure ends all, and none is running when fanOut returns. A reader may
// return before the end without failing. All run in the background: a few
// kilobytes may unpack for minutes.
func fanOut(ctx context.Context, source io.Reader, uses ...func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan *block, blocksAhead)
	for range blocksAhead {
		free <- &block{}
	}
	readers := make([]*blockReader, len(uses))
	done := make(chan struct{})
	for i, use := range uses {
		readers[i] = &blockReader{ctx: ctx, blocks: make(chan *block, blocksAhead), free: free}
		background.Go(func() {
			if err := use(readers[i]); err != nil {
				cancel(err)
			}
			_, _ = io.Copy(io.Discard, readers[i])
			done <- struct{}{}
		})
	}
	background.Go(func() {
		if err := deliver(ctx, source, free, readers); err != nil {
			cancel(err)
		}
		done <- struct{}{}
	})
	for range len(readers) + 1 {
		<-done
	}
	return context.Cause(ctx)
}

func deliver(ctx context.Context, source io.Reader, free <-chan *block, readers []*blockReader) error {
	for {
		var b *block
		select {
		case b = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b.data == nil {
			b.data = make([]byte, blockSize) // most layers of a build need only one
		}
		n, err := fill(source, b.data[:blockSize])
		b.data = b.data[:n]
		b.users.Store(int32(len(readers)))
		for _, r := range readers {
			r.blocks <- b // has room for all of them
		}
		if errors.Is(err, io.EOF) {
			for _, r := range readers {
				close(r.blocks)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until the buffer is full. io.EOF means the source's end; a cut
// stream has another error.
func fill(source io.Reader, buffer []byte) (int, error) {
	for n := 0; ; {
		read, err := source.Read(buffer[n:])
		n += read
		if err != nil || n == len(buffer) {
			return n, err
		}
	}
}

// block is a piece of the source, shared by all readers.
type block struct {
	data  []byte
	users atomic.Int32
}

// blockReader is one reader's end of a fan-out.
type blockReader struct {
	ctx    context.Context
	blocks chan *block
	free   chan<- *block
	block  *block
	left   []byte // of block
}

func (r *blockReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		r.giveBack()
		select {
		case b, ok := <-r.blocks:
			if !ok {
				return 0, io.EOF
			}
			r.block, r.left = b, b.data
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// WriteTo saves a copy.
func (r *blockReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if len(r.left) > 0 {
			n, err := w.Write(r.left)
			written += int64(n)
			r.left = r.left[n:]
			if err != nil {
				return written, err
			}
			continue
		}
		if _, err := r.Read(nil); errors.Is(err, io.EOF) {
			return written, nil
		} else if err != nil {
			return written, err
		}
	}
}

func (r *blockReader) giveBack() {
	if r.block != nil && r.block.users.Add(-1) == 0 {
		r.free <- r.block
	}
	r.block = nil
}
