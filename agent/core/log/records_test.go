package log

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// exported reads a log's records.
func exported(t *testing.T, w *Writer, options ReadOptions) []byte {
	t.Helper()
	options.Records = true
	r, err := w.Reader(options)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer r.Close()
	var all []byte
	for {
		chunk, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil || len(chunk.Data) == 0 || len(chunk.Data) > MaxChunk {
			t.Errorf("a chunk of %d bytes, %v", len(chunk.Data), err)
			return nil
		}
		all = append(all, chunk.Data...)
	}
}

func TestRecordsPutTogetherAreALogFileThatReadsTheSame(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{MaxSize: 3 << 20, MaxFiles: 10})
	write(t, w, entry{Stdout, 1, "one\n"}, entry{Stderr, 2, "problem\n"}, entry{Stdout, 3, "unfinished"})
	w.EndRun()
	w.BeginRun()
	write(t, w, entry{Stdout, 4, strings.Repeat("x", MaxRecord)}, entry{Stdout, 5, strings.Repeat("y", 3*MaxRecord) + "\n"}, entry{Stderr, 6, "end"})
	if names, _ := files(t, dir); len(names) < 2 {
		t.Fatalf("only %v", names)
	}
	records := exported(t, w, ReadOptions{})
	elsewhere := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(elsewhere, "0000000000000001.log"), records, 0o600))
	for _, options := range []ReadOptions{both, {Stdout: true, Timestamps: true}, {Stderr: true, Timestamps: true}} {
		r, err := w.Reader(options)
		stdout, stderr := everything(t, r, err)
		r, err = Stored(elsewhere, options)
		storedOut, storedErr := everything(t, r, err)
		if stdout != storedOut || stderr != storedErr || len(stdout)+len(stderr) == 0 {
			t.Errorf("%+v: %d and %d bytes instead of %d and %d", options, len(storedOut), len(storedErr), len(stdout), len(stderr))
		}
	}
}

func TestRecordsAreFollowedToTheEndOfTheRun(t *testing.T) {
	w := open(t, "", Settings{MaxSize: 1 << 20})
	write(t, w, entry{Stdout, 1, "before\n"})
	read := make(chan []byte)
	go func() { read <- exported(t, w, ReadOptions{Follow: true}) }()
	write(t, w, entry{Stderr, 2, "after\n"})
	w.EndRun()
	followed := <-read
	if whole := exported(t, w, ReadOptions{}); !bytes.Equal(followed, whole) {
		t.Errorf("%d of %d bytes", len(followed), len(whole))
	}
}
