package layers

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sockerless/sockerless/agent/core/background"
)

const (
	blockSize = 64 << 10
	// blocksAhead is how far one reader of a fan-out may run ahead of the other.
	blocksAhead = 64
	// allAhead bounds the blocks of all fan-outs, besides one of each: who sends or
	// reads no more holds them for as long as it likes.
	allAhead = 128 << 20 / blockSize
	// freePerBlock is how many blocks must be free for each that a fan-out holds when it
	// takes another: those that are stuck leave room for others.
	freePerBlock = 16
)

var (
	blocksInUse  atomic.Int64
	unusedBlocks = sync.Pool{New: func() any { return new([blockSize]byte) }}
)

// fanOut copies a source to concurrent readers. The slowest sets the pace; the
// first failure ends all, and none is running when fanOut returns. A reader may
// return before the end without failing. All run in the background: a few
// kilobytes may unpack for minutes.
func fanOut(ctx context.Context, source io.Reader, uses ...func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lent := &lending{returned: make(chan struct{}, 1)}
	defer lent.settle()
	readers := make([]*blockReader, len(uses))
	done := make(chan struct{})
	for i, use := range uses {
		readers[i] = &blockReader{ctx: ctx, blocks: make(chan *block, blocksAhead), lent: lent}
		background.Go(func() {
			if err := use(readers[i]); err != nil {
				cancel(err)
			}
			_, _ = io.Copy(io.Discard, readers[i])
			done <- struct{}{}
		})
	}
	background.Go(func() {
		if err := deliver(ctx, source, lent, readers); err != nil {
			cancel(err)
		}
		done <- struct{}{}
	})
	for range len(readers) + 1 {
		<-done
	}
	return context.Cause(ctx)
}

func deliver(ctx context.Context, source io.Reader, lent *lending, readers []*blockReader) error {
	for {
		b, err := lent.take(ctx)
		if err != nil {
			return err
		}
		n, err := fill(source, b.room[:])
		b.data = b.room[:n]
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

// lending counts the blocks of one fan-out.
type lending struct {
	count    atomic.Int64
	returned chan struct{}
}

// take waits for a block until ctx ends. One goroutine calls it.
func (l *lending) take(ctx context.Context) (*block, error) {
	for l.isAtBound() {
		select {
		case <-l.returned:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	l.count.Add(1)
	blocksInUse.Add(1)
	return &block{room: unusedBlocks.Get().(*[blockSize]byte)}, nil
}

// isAtBound is false for the first block, so that each fan-out goes on.
func (l *lending) isAtBound() bool {
	count := l.count.Load()
	return count >= blocksAhead || count > 0 && count*freePerBlock >= allAhead-blocksInUse.Load()
}

func (l *lending) giveBack(b *block) {
	unusedBlocks.Put(b.room)
	l.count.Add(-1)
	blocksInUse.Add(-1)
	select {
	case l.returned <- struct{}{}:
	default: // take will look anyway
	}
}

// settle gives up the blocks that were not read to their end.
func (l *lending) settle() { blocksInUse.Add(-l.count.Load()) }

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
	room  *[blockSize]byte
	data  []byte // of room
	users atomic.Int32
}

// blockReader is one reader's end of a fan-out.
type blockReader struct {
	ctx    context.Context
	blocks chan *block
	lent   *lending
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
		r.lent.giveBack(r.block)
	}
	r.block = nil
}
