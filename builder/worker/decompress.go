package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive/compression"
	"github.com/therootcompany/xz"
	"golang.org/x/sync/semaphore"
)

const (
	// largestWindow is that of `zstd --ultra --long`, and twice that of `xz -9`. The decoders' own limits are larger: 64 GiB
	// for a zstd frame that announces its content's size.
	largestWindow = 128 << 20
	// maxWindowed bounds the memory that archives with windows take together.
	maxWindowed = 8
)

// windowed bounds how many archives with windows are decompressed at once.
var windowed = semaphore.NewWeighted(maxWindowed)

// Decompress is dockerd's DecompressStream with bounded windows. It waits while too many archives with windows are
// decompressed.
func Decompress(ctx context.Context, archive io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(archive, 32<<10)
	if start, _ := buffered.Peek(headerBytes); !hasWindow(start) {
		return decompress(buffered)
	}
	if err := windowed.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	content, err := decompress(buffered)
	if err != nil {
		windowed.Release(1)
		return nil, err
	}
	return &windowedReader{content, sync.OnceFunc(func() { windowed.Release(1) })}, nil
}

// windowedReader lets the next archive with a window be decompressed once it is closed.
type windowedReader struct {
	io.ReadCloser
	release func()
}

func (r *windowedReader) Close() error {
	defer r.release()
	return r.ReadCloser.Close()
}

// headerBytes are enough of an archive to detect its compression.
const headerBytes = 10

// hasWindow is true for compressions whose archives choose how much memory they need.
func hasWindow(start []byte) bool {
	kind := compression.Detect(start)
	return kind == compression.Xz || kind == compression.Zstd
}

// fileHasWindow is hasWindow for a file's content.
func fileHasWindow(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false // reported by whoever reads it
	}
	defer file.Close()
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
