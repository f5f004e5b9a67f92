package layers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"

	"github.com/sockerless/sockerless/agent/core/zstdstream"
)

// zstdConcurrency has blocks decoded while the last one is unpacked.
const zstdConcurrency = 2

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
// unsupported formats, and passes anything else through. The stream's sender or
// receiver decides how long it lasts.
func decompress(blob io.Reader) (*tarStream, error) {
	return decompressWith(blob, func(in *bufio.Reader) (io.ReadCloser, error) {
		plain, err := zstdstream.Clients.Open(in, zstdConcurrency)
		if errors.Is(err, zstdstream.ErrNoRoom) {
			return nil, connect.NewError(connect.CodeResourceExhausted, err)
		}
		return plain, err
	})
}

// decompressFile is decompress for a file that is read at once.
func decompressFile(ctx context.Context, file io.Reader) (*tarStream, error) {
	return decompressWith(&cancellableReader{ctx, file}, func(in *bufio.Reader) (io.ReadCloser, error) {
		return zstdstream.Files.OpenInTurn(ctx, in, zstdConcurrency)
	})
}

func decompressWith(blob io.Reader, openZstd func(*bufio.Reader) (io.ReadCloser, error)) (*tarStream, error) {
	buffered := bufio.NewReaderSize(blob, blockSize)
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
		reader, err := openZstd(buffered)
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return &tarStream{reader, "zstd"}, nil
	}
	return &tarStream{io.NopCloser(buffered), ""}, nil
}
