package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"

	"github.com/sockerless/sockerless/agent/core/zstdstream"
)

var (
	gzipMagic  = []byte{0x1f, 0x8b, 0x08}
	bzip2Magic = []byte{'B', 'Z', 'h'}
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress recognises a compressed stream by its first bytes. release frees the
// decompressor's memory.
func decompress(in *bufio.Reader) (plain io.Reader, release func(), err error) {
	magic, _ := in.Peek(len(xzMagic)) // a shorter stream is no compressed one
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		plain, err := gzip.NewReader(in)
		return plain, func() {}, err
	case bytes.HasPrefix(magic, bzip2Magic):
		return bzip2.NewReader(in), func() {}, nil
	case bytes.HasPrefix(magic, zstdMagic):
		plain, err := zstdstream.Clients.Open(in, 1)
		if err != nil {
			return nil, nil, err
		}
		return plain, func() { plain.Close() }, nil
	case bytes.HasPrefix(magic, xzMagic):
		return nil, nil, badStream("the tar stream is compressed with xz: send it plain, or with gzip, bzip2 or zstd")
	}
	return in, func() {}, nil
}
