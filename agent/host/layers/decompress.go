package layers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory that a zstd frame may demand: decoders should
// support windows up to 8 MiB; `zstd --ultra --long` writes 128 MiB.
const maxZstdWindow = 128 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// A zstd stream may begin with skippable frames (0x184D2A50 to …5F).
	zstdSkippable = []byte{0x2a, 0x4d, 0x18}
)

// unreadable are the magic numbers of known but unsupported formats.
var unreadable = map[string][]byte{
	"bzip2": []byte("BZh"),
	"xz":    {0xfd, '7', 'z', 'X', 'Z', 0x00},
}

// tarStream is an uncompressed tar.
type tarStream struct {
	io.ReadCloser
	compression string // empty: none
}

// decompress recognises gzip and zstd by their first bytes, refuses known but
// unsupported formats, and passes anything else through.
func decompress(blob io.Reader) (*tarStream, error) {
	buffered := bufio.NewReaderSize(blob, 256<<10)
	magic, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for format, start := range unreadable {
		if bytes.HasPrefix(magic, start) {
			return nil, fmt.Errorf("archives compressed with %s are not supported: use gzip, zstd or no compression", format)
		}
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		reader, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return &tarStream{reader, "gzip"}, nil
	case bytes.HasPrefix(magic, zstdMagic), len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], zstdSkippable):
		reader, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return &tarStream{reader.IOReadCloser(), "zstd"}, nil
	}
	return &tarStream{io.NopCloser(buffered), ""}, nil
}
