package worker

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/go-archive/compression"
)

// largestWindow is that of `zstd --ultra --long`. The decoder's own limit is four times as large, and 64 GiB for a frame
// that announces its content's size.
const largestWindow = 128 << 20

// Decompress is dockerd's DecompressStream with bounded windows of zstd.
func Decompress(archive io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(archive, 32<<10)
	if start, _ := buffered.Peek(10); compression.Detect(start) != compression.Zstd {
		return compression.DecompressStream(buffered)
	}
	decoder, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(largestWindow), zstd.WithDecoderMaxMemory(largestWindow),
		zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return decoder.IOReadCloser(), nil
}

// demandsTooMuch is true for the error of a window that is too large.
func demandsTooMuch(err error) bool {
	return errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded)
}
