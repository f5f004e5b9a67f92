package archive

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func BenchmarkGetLargeFile(b *testing.B) {
	r, dir, _ := newRoot(b)
	plant(b, dir, [2]string{"big", strings.Repeat("x", 64<<20)})
	b.SetBytes(64 << 20)
	for b.Loop() {
		tree, err := r.Get("/big")
		must(b, err)
		must(b, tree.WriteTar(b.Context(), struct{ io.Writer }{io.Discard}))
		tree.Close()
	}
}

func smallFiles(b *testing.B) (*Root, int) {
	r, dir, _ := newRoot(b)
	const count = 2000
	for i := range count {
		plant(b, dir, [2]string{fmt.Sprintf("d/%d/f%d", i/100, i), strings.Repeat("x", 2000)})
	}
	return r, count
}

func BenchmarkGetSmallFiles(b *testing.B) {
	r, count := smallFiles(b)
	b.ResetTimer()
	for b.Loop() {
		tree, err := r.Get("/d")
		must(b, err)
		must(b, tree.WriteTar(b.Context(), struct{ io.Writer }{io.Discard}))
		tree.Close()
	}
	b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "files/s")
}

func BenchmarkPutLargeFile(b *testing.B) {
	r, _, _ := newRoot(b)
	stream := pack(b, file("big", strings.Repeat("x", 64<<20)))
	b.SetBytes(64 << 20)
	for b.Loop() {
		must(b, r.Put(b.Context(), "/", inPieces{bytes.NewReader(stream)}, PutOptions{}))
	}
}

func BenchmarkPutSmallFiles(b *testing.B) {
	r, count := smallFiles(b)
	stream := get(b, r, "/d")
	b.ResetTimer()
	for b.Loop() {
		must(b, r.Put(b.Context(), "/", bytes.NewReader(stream), PutOptions{}))
	}
	b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "files/s")
}

// inPieces reads in the small pieces of a connection.
type inPieces struct{ io.Reader }

func (p inPieces) Read(data []byte) (int, error) {
	return p.Reader.Read(data[:min(len(data), 65524)])
}
