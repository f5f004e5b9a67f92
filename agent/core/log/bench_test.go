package log

import (
	"bytes"
	"io"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func benchmarkAppend(b *testing.B, size int) {
	w := open(b, b.TempDir(), Settings{MaxSize: 64 << 20, MaxFiles: 2})
	data := bytes.Repeat([]byte("x"), size)
	now := time.Now()
	b.SetBytes(int64(size))
	for b.Loop() {
		assert.NilError(b, w.Append(Stdout, now, data))
	}
}

func BenchmarkAppend64KiB(b *testing.B)    { benchmarkAppend(b, 64<<10) }
func BenchmarkAppend100Bytes(b *testing.B) { benchmarkAppend(b, 100) }

func filled(b *testing.B, chunk string, total int) *Writer {
	w := open(b, b.TempDir(), Settings{})
	for written := 0; written < total; written += len(chunk) {
		assert.NilError(b, w.Append(Stdout, at(1), []byte(chunk)))
	}
	return w
}

func benchmarkRead(b *testing.B, chunk string, options ReadOptions) {
	const total = 64 << 20
	w := filled(b, chunk, total)
	b.SetBytes(total)
	for b.Loop() {
		r, err := w.Reader(options)
		assert.NilError(b, err)
		for {
			if _, err = r.Next(b.Context()); err != nil {
				break
			}
		}
		assert.Assert(b, err == io.EOF, err)
		r.Close()
	}
}

var line = string(bytes.Repeat([]byte("x"), 99)) + "\n"

func BenchmarkReadLargeRecords(b *testing.B) {
	benchmarkRead(b, string(bytes.Repeat([]byte(line), 640)), both)
}

func BenchmarkReadSmallRecords(b *testing.B) { benchmarkRead(b, line, both) }

func BenchmarkTail10(b *testing.B) {
	w := filled(b, line, 64<<20)
	ten := uint64(10)
	for b.Loop() {
		r, err := w.Reader(ReadOptions{Stdout: true, Tail: &ten})
		assert.NilError(b, err)
		r.Close()
	}
}
