package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// frame is a line as a client gets it.
type frame struct {
	stream Stream
	text   string
}

// framesOf parses a chunk, which must hold whole frames.
func framesOf(t testing.TB, chunk Chunk) []frame {
	t.Helper()
	if chunk.Stream != Frames {
		t.Fatalf("a chunk of stream %d", chunk.Stream)
	}
	var frames []frame
	for data := chunk.Data; len(data) > 0; {
		if len(data) < 8 || int(binary.BigEndian.Uint32(data[4:])) > len(data)-8 {
			t.Fatalf("a chunk ends within a frame: %q", data)
		}
		end := 8 + binary.BigEndian.Uint32(data[4:])
		frames = append(frames, frame{Stream(data[0]), string(data[8:end])})
		data = data[end:]
	}
	return frames
}

// frames reads on until there are n frames, or r ends.
func frames(t testing.TB, r *Reader, n int) []frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var all []frame
	for len(all) < n {
		chunk, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		all = append(all, framesOf(t, chunk)...)
	}
	return all
}

func framed(options ReadOptions) ReadOptions {
	options.Form = Framed
	return options
}

func expectFrames(t *testing.T, got []frame, want ...frame) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

const unbounded = 1 << 30

func TestEachLineIsAFrameHoweverItWasWritten(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, "a\nb\nbegin"}, entry{Stderr, 2, "error\nhalf"}, entry{Stdout, 3, " end\n\nlast"})
	r := reader(t, w, framed(both))
	expectFrames(t, frames(t, r, unbounded),
		frame{Stdout, "a\n"}, frame{Stdout, "b\n"}, frame{Stderr, "error\n"}, frame{Stdout, "begin end\n"},
		frame{Stdout, "\n"}, frame{Stdout, "last"}, frame{Stderr, "half"})
}

func TestALineLongerThan16KiBComesInPiecesWithHeads(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	w := open(t, t.TempDir(), Settings{})
	for i := range 40 {
		write(t, w, entry{Stdout, int64(i), x(1000)})
	}
	write(t, w, entry{Stdout, 90, "\n"}, entry{Stdout, 91, x(16<<10) + "\n" + x(16<<10-1) + "\n"})
	options := framed(both)
	options.Prefix = "k=v "
	options.Timestamps = true
	head := func(second int64) string {
		return at(second).UTC().Format(timestampFormat) + " k=v "
	}
	expectFrames(t, frames(t, reader(t, w, options), unbounded),
		frame{Stdout, head(0) + x(16384)}, frame{Stdout, head(0) + x(16384)}, frame{Stdout, head(0) + x(40000-2*16384) + "\n"},
		frame{Stdout, head(91) + x(16384)}, frame{Stdout, head(91) + "\n"}, frame{Stdout, head(91) + x(16383) + "\n"})
}

func TestAFollowerGetsALineOnceItIsWholeOrItsRunHasEnded(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, "one\ntw"})
	r := reader(t, w, framed(following))
	expectFrames(t, frames(t, r, 1), frame{Stdout, "one\n"})
	write(t, w, entry{Stderr, 2, "meanwhile\n"})
	expectFrames(t, frames(t, r, 1), frame{Stderr, "meanwhile\n"})
	write(t, w, entry{Stdout, 3, "o\nla"})
	expectFrames(t, frames(t, r, 1), frame{Stdout, "two\n"})
	write(t, w, entry{Stdout, 4, "st"})
	w.EndRun()
	w.BeginRun()
	write(t, w, entry{Stdout, 5, "next run\n"})
	expectFrames(t, frames(t, r, unbounded), frame{Stdout, "last"})
	expectFrames(t, frames(t, reader(t, w, framed(both)), unbounded),
		frame{Stdout, "one\n"}, frame{Stderr, "meanwhile\n"}, frame{Stdout, "two\n"}, frame{Stdout, "last"}, frame{Stdout, "next run\n"})
}

func TestWholeLinesComeWithoutFramesToo(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, "a\nbe"}, entry{Stderr, 2, "error\n"}, entry{Stdout, 3, "gin\n"})
	options := both
	options.Form = Lines
	r := reader(t, w, options)
	var got []frame
	for {
		chunk, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		got = append(got, frame{chunk.Stream, string(chunk.Data)})
	}
	expectFrames(t, got, frame{Stdout, "a\n"}, frame{Stderr, "error\n"}, frame{Stdout, "begin\n"})
}

func TestFramesOfManyReadersAreSmall(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	write(t, w, entry{Stdout, 1, strings.Repeat("x\n", 10*smallBuffer)})
	write(t, w, entry{Stdout, 2, strings.Repeat("x\n", smallBuffer/4)})
	for range maxLarge {
		frames(t, reader(t, w, framed(both)), 1) // holds a large buffer
	}
	r := reader(t, w, framed(both))
	for {
		chunk, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		if !r.buf.isLarge() && len(chunk.Data) > smallChunk+maxPiece {
			t.Fatalf("a chunk of %d bytes", len(chunk.Data))
		}
	}
}

func TestAnyLogsFramesAreItsLines(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		w := open(t, t.TempDir(), Settings{MaxSize: uint64(40 + random.IntN(400)), MaxFiles: 10000})
		var entries []entry
		freshAt := map[int]bool{}
		second := int64(0)
		for i := range 1 + random.IntN(40) {
			second += random.Int64N(3)
			if random.IntN(10) == 0 {
				freshAt[i] = true
				w.EndRun()
				w.BeginRun()
			}
			entries = append(entries, entry{Stream(1 + random.IntN(2)), second, randomText(random)})
			write(t, w, entries[i])
		}
		for range 20 {
			o := randomOptions(random, second)
			var got [3][]string
			for _, f := range frames(t, reader(t, w, framed(o)), unbounded) {
				got[f.stream] = append(got[f.stream], f.text)
			}
			for _, stream := range []Stream{Stdout, Stderr} {
				var want []string
				for _, line := range modelLines(entries, freshAt) {
					if line.stream == stream {
						want = append(want, line.text)
					}
				}
				wantOut, wantErr := modelRead(modelLines(entries, freshAt), o)
				if text := strings.Join(got[stream], ""); stream == Stdout && text != wantOut || stream == Stderr && text != wantErr {
					t.Fatalf("seed %d, %s: got %q, want %q and %q", seed, describe(o), text, wantOut, wantErr)
				}
				if o.Timestamps || o.Prefix != "" {
					continue
				}
				// Lines are chosen, each one frame.
				for _, text := range got[stream] {
					at := slices.Index(want, text)
					if at < 0 {
						t.Fatalf("seed %d, %s: %q is no line of %q", seed, describe(o), text, want)
					}
					want = want[at+1:]
				}
			}
		}
	}
}

func BenchmarkReadFrames(b *testing.B) {
	for _, size := range []int{20, 100, 1000} {
		line := append(bytes.Repeat([]byte("x"), size-1), '\n')
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			benchmarkRead(b, string(bytes.Repeat(line, 64000/size)), framed(both))
		})
	}
}

func BenchmarkReadFramesOfSmallRecords(b *testing.B) { benchmarkRead(b, line, framed(both)) }

func BenchmarkReadFramesTimestamps(b *testing.B) {
	benchmarkRead(b, string(bytes.Repeat([]byte(line), 640)), framed(ReadOptions{Stdout: true, Timestamps: true}))
}
