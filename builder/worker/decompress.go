package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive/compression"
	"github.com/therootcompany/xz"
	"golang.org/x/sync/semaphore"
)

const (
	// largestWindow is that of `zstd --ultra --long`, and twice that of `xz -9`. The decoders' own limits are larger: 64 GiB
	// for a zstd frame that announces its content's size.
	largestWindow = 128 << 20
	// maxWindowed is how many archives in xz or zstd, whose decoders keep a window as large as the archive says, are
	// decompressed at once. With largestWindow it bounds their memory.
	maxWindowed = 8
)

var decompressionSlots = semaphore.NewWeighted(maxWindowed)

// Decompress is dockerd's DecompressStream with bounded windows. An archive in xz or zstd is received whole before it takes
// one of the slots, which it keeps until it is closed. Must not be called with a slot.
func (w *Worker) Decompress(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(archive, 32<<10)
	if start, _ := buffered.Peek(headerBytes); !hasWindow(start) {
		return decompress(buffered)
	}
	packed, err := w.received(buffered)
	if err != nil {
		return nil, err
	}
	if decompressionSlots.Acquire(ctx, 1) != nil {
		return nil, errors.Join(context.Cause(ctx), packed.Close())
	}
	content, err := decompress(bufio.NewReader(packed))
	if err != nil {
		decompressionSlots.Release(1)
		return nil, errors.Join(err, packed.Close())
	}
	return &slotReader{content, packed, sync.OnceFunc(func() { decompressionSlots.Release(1) })}, nil
}

// received stores an archive in a file without a name.
func (w *Worker) received(archive io.Reader) (*os.File, error) {
	file, err := w.unnamedFile()
	if err != nil {
		return nil, err
	}
	if _, err = w.limits.Context.copy("the archive", file, archive); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// slotReader gives its slot back once it is closed.
type slotReader struct {
	io.ReadCloser
	packed  *os.File
	release func()
}

func (r *slotReader) Close() error {
	defer r.release()
	err := r.ReadCloser.Close()
	_ = r.packed.Close()
	return err
}

// headerBytes are enough of an archive to detect its compression.
const headerBytes = 10

// hasWindow is true for compressions whose archives choose how much memory they need.
func hasWindow(start []byte) bool {
	kind := compression.Detect(start)
	return kind == compression.Xz || kind == compression.Zstd
}

// fileHasWindow is hasWindow for the content of a regular file; false for any other.
func fileHasWindow(path string) bool {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false // reported by whoever reads it
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	start := make([]byte, headerBytes)
	count, _ := io.ReadFull(file, start)
	return hasWindow(start[:count])
}

// decompress is Decompress without a limit on how many are decompressed at once.
func decompress(buffered *bufio.Reader) (io.ReadCloser, error) {
	start, _ := buffered.Peek(headerBytes)
	switch compression.Detect(start) {
	case compression.Xz:
		decoder, err := xz.NewReader(buffered, largestWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(decoder), nil
	case compression.Zstd:
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(largestWindow), zstd.WithDecoderMaxMemory(largestWindow),
			zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	default:
		return compression.DecompressStream(buffered)
	}
}

// demandsTooMuch is true for the error of a window that is too large.
func demandsTooMuch(err error) bool {
	return errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, xz.ErrMemlimit)
}
