package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Stream is the output that a record holds. The numbers are those of the proto's
// Stream and are on disk: never renumber them.
type Stream uint8

// The two outputs. A terminal's output is all Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// A record is header, data, trailer; little endian, no padding:
//
//	0  uint16  magic
//	2  uint8   stream
//	3  uint8   flags
//	4  uint32  length of data
//	8  int64   Unix time in ns at which the chunk was read
//	16 uint32  CRC-32C of bytes 0–15 and the data
//	20         data
//	…  uint32  length of data again, so that a reader can walk backwards
const (
	recordMagic   = 0x4c53 // "SL"
	headerSize    = 20
	trailerSize   = 4
	recordFraming = headerSize + trailerSize
)

// MaxRecord bounds the data of one record that is read.
const MaxRecord = 1 << 20

// maxWritten bounds the data of one written record; Append splits longer chunks,
// so that readers can use small buffers.
const maxWritten = smallBuffer - recordFraming

// minRecordLimit is the smallest record size that small files can impose: below
// it they would hold mostly framing.
const minRecordLimit = 512

// flagFresh marks the first record of a stream in one run of the container: an
// unfinished line of an earlier run ends before it.
const flagFresh = 1 << 0

// errTorn means that there is no whole record at a place.
var errTorn = errors.New("torn record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	stream Stream
	flags  uint8
	length uint32
	time   int64
	sum    uint32
}

// size is the record's size on disk.
func (h header) size() int64 { return recordFraming + int64(h.length) }

func (h header) fresh() bool { return h.flags&flagFresh != 0 }

// encodeFraming fills the header (first headerSize bytes) and the trailer of a
// record.
func encodeFraming(framing *[recordFraming]byte, stream Stream, flags uint8, at int64, data []byte) {
	b := framing[:]
	binary.LittleEndian.PutUint16(b, recordMagic)
	b[2], b[3] = byte(stream), flags
	binary.LittleEndian.PutUint32(b[4:], uint32(len(data)))
	binary.LittleEndian.PutUint64(b[8:], uint64(at))
	sum := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, data)
	binary.LittleEndian.PutUint32(b[16:], sum)
	binary.LittleEndian.PutUint32(b[headerSize:], uint32(len(data)))
}

// parseHeader parses a header and refuses invalid ones.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize {
		return header{}, errTorn
	}
	h := header{
		stream: Stream(b[2]),
		flags:  b[3],
		length: binary.LittleEndian.Uint32(b[4:]),
		time:   int64(binary.LittleEndian.Uint64(b[8:])),
		sum:    binary.LittleEndian.Uint32(b[16:]),
	}
	magic := binary.LittleEndian.Uint16(b)
	if magic != recordMagic || h.length == 0 || h.length > MaxRecord || (h.stream != Stdout && h.stream != Stderr) {
		return header{}, fmt.Errorf("%w: not a record header", errTorn)
	}
	return h, nil
}

// parseRecord parses and verifies the whole record at the start of b. The data is
// a slice of b.
func parseRecord(b []byte) (header, []byte, error) {
	h, err := parseHeader(b)
	if err != nil {
		return h, nil, err
	}
	if int64(len(b)) < h.size() {
		return h, nil, errTorn
	}
	data := b[headerSize : headerSize+int(h.length)]
	if crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, data) != h.sum {
		return h, nil, fmt.Errorf("%w: checksum differs", errTorn)
	}
	if binary.LittleEndian.Uint32(b[headerSize+int(h.length):]) != h.length {
		return h, nil, fmt.Errorf("%w: trailer differs", errTorn)
	}
	return h, data, nil
}
