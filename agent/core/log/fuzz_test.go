package log

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// FuzzDamagedFile reads any bytes as a log file: a cloud container can write
// anything into its own. Reading must end, and a writer must continue after it.
func FuzzDamagedFile(f *testing.F) {
	seed, _, err := Open(f.TempDir(), Settings{})
	if err != nil {
		f.Fatal(err)
	}
	defer seed.Close()
	write(f, seed, entry{Stdout, 1, "one\ntwo"}, entry{Stderr, 2, "err\n"}, entry{Stdout, 3, "three\n"})
	whole, err := os.ReadFile(seed.chain.last().path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint64(1))
	f.Add(whole[:len(whole)-3], uint64(2))
	f.Add(append(whole[:30:30], whole...), uint64(100))
	f.Fuzz(func(t *testing.T, content []byte, tail uint64) {
		dir := t.TempDir()
		assert.NilError(t, os.WriteFile(segmentPath(dir, 1), content, 0o600))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		drain := func(r *Reader, err error) (text string) {
			assert.NilError(t, err)
			defer r.Close()
			for {
				chunk, err := r.Next(ctx)
				var damaged *CorruptError
				switch {
				case errors.Is(err, io.EOF):
					return text
				case errors.As(err, &damaged):
				case err != nil:
					t.Fatal(err)
				}
				text += string(chunk.Data)
			}
		}
		drain(Stored(dir, both))
		drain(Stored(dir, ReadOptions{Stdout: true, Stderr: true, Timestamps: true, Tail: &tail}))
		w := open(t, dir, Settings{})
		write(t, w, entry{Stdout, 9, "after\n"})
		if text := drain(w.Reader(both)); len(text) < 6 || text[len(text)-6:] != "after\n" {
			t.Errorf("what was written afterwards is missing in %q", text)
		}
	})
}
