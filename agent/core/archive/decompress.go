package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"
)

var (
	gzipMagic  = []byte{0x1f, 0x8b, 0x08}
	bzip2Magic = []byte{'B', 'Z', 'h'}
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress recognises a compressed stream by its first bytes.
func decompress(in *bufio.Reader) (io.Reader, error) {
	magic, _ := in.Peek(len(xzMagic)) // a shorter stream is no compressed one
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		plain, err := gzip.NewReader(in)
		if err != nil {
			return nil, &failure{ErrInvalid, err.Error(), err}
		}
		return plain, nil
	case bytes.HasPrefix(magic, bzip2Magic):
		return bzip2.NewReader(in), nil
	case bytes.HasPrefix(magic, xzMagic):
		return nil, invalid("the tar stream is compressed with xz: send it plain, or with gzip or bzip2")
	case bytes.HasPrefix(magic, zstdMagic):
		return nil, invalid("the tar stream is compressed with zstd: send it plain, or with gzip or bzip2")
	}
	return in, nil
}
