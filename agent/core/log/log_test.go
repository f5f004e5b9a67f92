package log

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// at is n seconds after a fixed moment.
func at(n int64) time.Time { return time.Unix(1700000000+n, 0) }

type entry struct {
	stream Stream
	second int64
	text   string
}

func write(t testing.TB, w *Writer, entries ...entry) {
	t.Helper()
	for _, e := range entries {
		assert.NilError(t, w.Append(e.stream, at(e.second), []byte(e.text)))
	}
}

func open(t testing.TB, dir string, settings Settings) *Writer {
	t.Helper()
	w, _, err := Open(dir, settings)
	assert.NilError(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

// everything reads r to its end, as stdout and stderr.
func everything(t testing.TB, r *Reader, err error) (stdout, stderr string) {
	t.Helper()
	assert.NilError(t, err)
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		chunk, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return stdout, stderr
		}
		assert.NilError(t, err)
		if chunk.Stream == Stdout {
			stdout += string(chunk.Data)
		} else {
			stderr += string(chunk.Data)
		}
	}
}

var both = ReadOptions{Stdout: true, Stderr: true}

func TestEveryByteOfBothStreamsComesBack(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "a\nb"}, entry{Stderr, 2, "err"}, entry{Stdout, 3, "c\nlast"})
	r, err := w.Reader(both)
	if out, errOut := everything(t, r, err); out != "a\nbc\nlast" || errOut != "err" {
		t.Errorf("got %q and %q", out, errOut)
	}
	w.Close()
	r, err = Stored(dir, both)
	if out, errOut := everything(t, r, err); out != "a\nbc\nlast" || errOut != "err" {
		t.Errorf("stored: got %q and %q", out, errOut)
	}
}

// endOf waits for all appended output.
func endOf(t testing.TB, w *Writer) Position {
	t.Helper()
	end, err := w.End().Wait(t.Context())
	assert.NilError(t, err)
	return end
}

func TestTheLastLinesOfALogTakeNoMemoryForTheirRecords(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, strings.Repeat("line\n", 10_000)})
	w.Close()
	const reads = 100
	line := uint64(1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range reads {
		r, err := Stored(dir, ReadOptions{Stdout: true, Tail: &line})
		if out, _ := everything(t, r, err); out != "line\n" {
			t.Fatalf("got %q", out)
		}
	}
	runtime.ReadMemStats(&after)
	taken := (after.TotalAlloc - before.TotalAlloc) / reads
	assert.Check(t, taken < smallBuffer/2, "%d bytes each", taken)
}
