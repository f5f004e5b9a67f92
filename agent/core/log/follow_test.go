package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// read collects n bytes of r, or what came before its end.
func read(t *testing.T, r *Reader, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var text strings.Builder
	for text.Len() < n {
		chunk, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		text.Write(chunk.Data)
	}
	return text.String()
}

var following = ReadOptions{Stdout: true, Stderr: true, Follow: true}

func reader(t *testing.T, w *Writer, options ReadOptions) *Reader {
	t.Helper()
	r, err := w.Reader(options)
	assert.NilError(t, err)
	t.Cleanup(r.Close)
	return r
}

func TestAFollowerGetsTheRestOfItsRunAndNoOther(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, "one\n"})
	r := reader(t, w, following)
	if got := read(t, r, 4); got != "one\n" {
		t.Fatalf("%q", got)
	}
	write(t, w, entry{Stdout, 2, "two"})
	if got := read(t, r, 3); got != "two" {
		t.Fatalf("%q", got)
	}
	write(t, w, entry{Stdout, 3, "last"})
	w.EndRun()
	w.BeginRun()
	write(t, w, entry{Stdout, 4, "next run\n"})
	if got := read(t, r, 100); got != "last" {
		t.Errorf("%q", got)
	}
	again := reader(t, w, following)
	w.EndRun()
	if got := read(t, again, 100); got != "one\ntwolastnext run\n" {
		t.Errorf("%q", got)
	}
}

func TestAReaderThatDoesNotFollowEndsWhereTheLogEndedThen(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, "one\n"})
	r := reader(t, w, both)
	write(t, w, entry{Stdout, 2, "two\n"})
	if got := read(t, r, 100); got != "one\n" {
		t.Errorf("%q", got)
	}
}

func TestAFollowerThatKeepsUpLosesNothingToRotation(t *testing.T) {
	w := open(t, t.TempDir(), Settings{MaxSize: 300, MaxFiles: 1})
	r := reader(t, w, following)
	for i := range 2000 {
		line := fmt.Sprintf("%06d %s\n", i, strings.Repeat("x", i%90))
		write(t, w, entry{Stdout, int64(i), line})
		if got := read(t, r, len(line)); got != line {
			t.Fatalf("%q instead of %q", got, line)
		}
	}
}

func TestAStalledFollowerNeitherHoldsFilesNorFails(t *testing.T) {
	w := open(t, t.TempDir(), Settings{MaxSize: 300, MaxFiles: 2})
	r := reader(t, w, following)
	for i := range 200 {
		write(t, w, entry{Stdout, int64(i), fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", 90))})
	}
	if held := len(w.chain.dropped); held > droppedKept {
		t.Errorf("%d dropped files are held", held)
	}
	w.EndRun()
	got := read(t, r, 1<<20)
	assert.Check(t, strings.HasSuffix(got, "line 199 "+strings.Repeat("x", 90)+"\n"), "the end is missing: %q", got)
	r.Close()
	if held := len(w.chain.dropped); held > 0 {
		t.Errorf("%d dropped files are held without a reader", held)
	}
}

func TestAStalledReaderOfWhatIsThereTellsOfFilesThatRotationRemoved(t *testing.T) {
	w := open(t, t.TempDir(), Settings{MaxSize: 1, MaxFiles: 3})
	write(t, w, entry{Stdout, 1, "one\n"}, entry{Stdout, 2, "two\n"}, entry{Stdout, 3, "three\n"})
	r := reader(t, w, both)
	if got := read(t, r, 4); got != "one\n" {
		t.Fatalf("%q", got)
	}
	for i := range 4 {
		write(t, w, entry{Stdout, int64(4 + i), "later\n"})
	}
	_, err := r.Next(t.Context())
	var lost *CorruptError
	assert.Check(t, is.ErrorType(err, lost))
	assert.Check(t, is.ErrorIs(err, errRotated))
	assert.Check(t, is.ErrorContains(err, " was removed by rotation before it was read, from byte "))
	if got := read(t, r, 100); got != "" {
		t.Errorf("%q was written later", got)
	}
}

func TestReplayAndLiveOutputHaveNoGapAndNoRepetition(t *testing.T) {
	w := open(t, t.TempDir(), Settings{MaxSize: 500, MaxFiles: 1000})
	var want, live strings.Builder
	var end Position
	for i := range 300 {
		if i == 150 {
			end = endOf(t, w) // under the lock that orders Append and live output
		}
		line := fmt.Sprintf("line %d\n", i)
		write(t, w, entry{Stdout, int64(i), line})
		want.WriteString(line)
		if i >= 150 {
			live.WriteString(line)
		}
	}
	r := reader(t, w, ReadOptions{Stdout: true, UpTo: &end})
	if got := read(t, r, 1<<20) + live.String(); got != want.String() {
		t.Errorf("got %q", got)
	}
}

func TestFollowingEndsWithItsContextAndAtUntil(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	r := reader(t, w, following)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.Next(ctx)
	assert.Check(t, is.ErrorIs(err, context.Canceled))
	until := time.Now().Add(20 * time.Millisecond).UnixNano()
	r = reader(t, w, ReadOptions{Stdout: true, Follow: true, Until: &until})
	if got := read(t, r, 1); got != "" {
		t.Errorf("%q", got)
	}
	assert.Check(t, time.Now().UnixNano() >= until, "ended too early")
}

func TestConsecutiveRecordsOfOneStreamAreOneChunk(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	part := strings.Repeat("x", 1000)
	for i := range 3000 {
		write(t, w, entry{Stdout, int64(i), part})
	}
	r := reader(t, w, both)
	chunks := 0
	for {
		chunk, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(chunk.Data) == 0 || len(chunk.Data) > MaxChunk {
			t.Fatalf("%d bytes, %v", len(chunk.Data), err)
		}
		chunks++
	}
	assert.Check(t, chunks <= 4, "%d chunks for 3 MB", chunks)
}

func TestDecoratedChunksAreBoundedWhateverTheLinesAre(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	text := strings.Repeat("\n", MaxRecord) + strings.Repeat("y", MaxRecord)
	write(t, w, entry{Stdout, 1, text})
	r := reader(t, w, ReadOptions{Stdout: true, Timestamps: true, Prefix: "p "})
	total := 0
	for {
		chunk, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(chunk.Data) > MaxChunk {
			t.Fatalf("%d bytes, %v", len(chunk.Data), err)
		}
		total += len(chunk.Data)
	}
	if want := (MaxRecord+MaxRecord/maxPiece)*(len(timestampFormat)+3) + 2*MaxRecord; total != want {
		t.Errorf("%d bytes instead of %d", total, want)
	}
}

func TestClosingTheWriterLetsReadersFinish(t *testing.T) {
	w := open(t, t.TempDir(), Settings{MaxSize: 300, MaxFiles: 100})
	r := reader(t, w, following)
	want := ""
	for i := range 50 {
		line := fmt.Sprintf("line %d\n", i)
		write(t, w, entry{Stdout, int64(i), line})
		want += line
	}
	w.Close()
	if got := read(t, r, 1<<20); got != want {
		t.Errorf("%q", got)
	}
	_, err := w.Reader(both)
	assert.Check(t, is.ErrorIs(err, os.ErrClosed), "a new reader")
	assert.Check(t, is.ErrorIs(w.Append(Stdout, at(1), []byte("x")), os.ErrClosed), "append")
	files := w.chain.segments
	r.Close()
	_, err = files[0].file.Stat()
	assert.Check(t, is.ErrorIs(err, os.ErrClosed), "a file is open after the last reader")
}

// There may be hundreds of readers: only a few get large buffers, and those with
// a record too large for a small one.
func TestManyReadersHoldSmallBuffers(t *testing.T) {
	const readers = 40
	w := open(t, t.TempDir(), Settings{})
	text := strings.Repeat("0123456789abcde\n", 4*MaxRecord/16)
	write(t, w, entry{Stdout, 1, text})
	before := larges.Load()
	held := 0
	for range readers {
		r, err := w.Reader(both)
		assert.NilError(t, err)
		defer r.Close()
		_, err = r.Next(t.Context())
		assert.NilError(t, err)
		held += len(r.buf.bytes)
	}
	if limit := maxLarge*largeBuffer + readers*smallBuffer; held > limit {
		t.Errorf("%d readers hold %d bytes", readers, held)
	}
	// As an earlier version wrote it.
	assert.NilError(t, w.chain.last().write(Stdout, 0, 2, []byte(text[:MaxRecord])))
	r, err := w.Reader(both)
	if out, _ := everything(t, r, err); out != text+text[:MaxRecord] {
		t.Errorf("%d of %d bytes", len(out), len(text)+MaxRecord)
	}
	r.Close()
	if larges.Load()-before > maxLarge {
		t.Errorf("%d large buffers in use", larges.Load())
	}
}
