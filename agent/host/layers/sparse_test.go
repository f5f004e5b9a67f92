package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// sparseTar makes a tar with one file "sparse" of size bytes that has content
// at offset and holes around it, in the PAX sparse format 0.1, which Go's own
// writer does not write.
func sparseTar(size, offset int64, content string) []byte {
	records := ""
	for _, record := range [][2]string{
		{"GNU.sparse.size", strconv.FormatInt(size, 10)},
		{"GNU.sparse.numblocks", "1"},
		{"GNU.sparse.map", fmt.Sprintf("%d,%d", offset, len(content))},
	} {
		records += paxRecord(record[0], record[1])
	}
	var buffer bytes.Buffer
	writeRaw(&buffer, "x", tar.TypeXHeader, records)
	writeRaw(&buffer, "sparse", tar.TypeReg, content)
	buffer.Write(make([]byte, 1024))
	return buffer.Bytes()
}

func paxRecord(key, value string) string {
	const padding = 3 // a space, an equals sign and a newline
	size := len(key) + len(value) + padding
	size += len(strconv.Itoa(size))
	record := fmt.Sprintf("%d %s=%s\n", size, key, value)
	if len(record) != size {
		record = fmt.Sprintf("%d %s=%s\n", len(record), key, value)
	}
	return record
}

func writeRaw(w io.Writer, name string, kind byte, content string) {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000644\x000000000\x000000000\x00")
	copy(block[124:], fmt.Sprintf("%011o\x0000000000000\x00", len(content)))
	copy(block[148:], "        ")
	block[156] = kind
	copy(block[257:], "ustar\x0000")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	w.Write(block)
	padded := make([]byte, (len(content)+511)/512*512)
	copy(padded, content)
	w.Write(padded)
}
