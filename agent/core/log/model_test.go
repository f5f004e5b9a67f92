package log

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// modelLine is a line by the package's definition, found by a straightforward
// search.
type modelLine struct {
	stream Stream
	begin  int64 // time of the record in which it began
	text   string
	end    int // place of its last byte among all bytes of the log
}

// modelLines splits the written output, in the order of the lines' ends.
func modelLines(entries []entry, freshAt map[int]bool) []modelLine {
	var lines []modelLine
	open := map[Stream]*modelLine{}
	position := 0
	finish := func(stream Stream) {
		if line := open[stream]; line != nil {
			lines = append(lines, *line)
			open[stream] = nil
		}
	}
	for i, e := range entries {
		if freshAt[i] {
			finish(Stdout)
			finish(Stderr)
		}
		for _, b := range []byte(e.text) {
			if open[e.stream] == nil {
				open[e.stream] = &modelLine{stream: e.stream, begin: at(e.second).UnixNano()}
			}
			line := open[e.stream]
			line.text += string(b)
			line.end = position
			position++
			if b == '\n' {
				finish(e.stream)
			}
		}
	}
	finish(Stdout)
	finish(Stderr)
	slices.SortFunc(lines, func(a, b modelLine) int { return a.end - b.end })
	return lines
}

func modelRead(lines []modelLine, o ReadOptions) (stdout, stderr string) {
	if o.Tail != nil {
		lines = lines[len(lines)-int(min(*o.Tail, uint64(len(lines)))):]
	}
	for _, line := range lines {
		if o.Since != nil && line.begin < *o.Since || o.Until != nil && line.begin > *o.Until {
			continue
		}
		head := o.Prefix
		if o.Timestamps {
			head = time.Unix(0, line.begin).UTC().Format("2006-01-02T15:04:05.000000000Z") + " " + head
		}
		switch {
		case line.stream == Stdout && o.Stdout:
			stdout += head + line.text
		case line.stream == Stderr && o.Stderr:
			stderr += head + line.text
		}
	}
	return stdout, stderr
}

func randomText(random *rand.Rand) string {
	var text strings.Builder
	for range 1 + random.IntN(12) {
		if random.IntN(4) == 0 {
			text.WriteByte('\n')
		} else {
			text.WriteByte(byte('a' + random.IntN(26)))
		}
	}
	return text.String()
}

func randomOptions(random *rand.Rand, seconds int64) ReadOptions {
	moment := func() *int64 {
		if random.IntN(3) > 0 {
			return nil
		}
		ns := at(random.Int64N(seconds + 1)).UnixNano()
		return &ns
	}
	o := ReadOptions{Stdout: random.IntN(4) > 0, Stderr: random.IntN(4) > 0, Timestamps: random.IntN(2) == 0, Since: moment(), Until: moment()}
	if random.IntN(2) == 0 {
		tail := uint64(random.IntN(20))
		o.Tail = &tail
	}
	if random.IntN(3) == 0 {
		o.Prefix = "k=v "
	}
	return o
}

func describe(o ReadOptions) string {
	text := fmt.Sprintf("%+v", o)
	if o.Tail != nil {
		text += fmt.Sprintf(" tail %d", *o.Tail)
	}
	if o.Since != nil {
		text += fmt.Sprintf(" since %d", *o.Since)
	}
	if o.Until != nil {
		text += fmt.Sprintf(" until %d", *o.Until)
	}
	return text
}

func TestAnyLogReadsAsItsLinesSay(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		w := open(t, dir, Settings{MaxSize: uint64(40 + random.IntN(400)), MaxFiles: 10000})
		var entries []entry
		freshAt := map[int]bool{}
		second := int64(0)
		for i := range 1 + random.IntN(40) {
			second += random.Int64N(3)
			e := entry{Stream(1 + random.IntN(2)), second, randomText(random)}
			if random.IntN(10) == 0 {
				freshAt[i] = true
				w.EndRun()
				w.BeginRun()
			}
			entries = append(entries, e)
			write(t, w, e)
		}
		lines := modelLines(entries, freshAt)
		for range 20 {
			o := randomOptions(random, second)
			wantOut, wantErr := modelRead(lines, o)
			r, err := w.Reader(o)
			gotOut, gotErr := everything(t, r, err)
			if gotOut != wantOut || gotErr != wantErr {
				t.Fatalf("seed %d, %s:\nentries %q\ngot  %q and %q\nwant %q and %q", seed, describe(o), entries, gotOut, gotErr, wantOut, wantErr)
			}
		}
		w.Close()
		o := randomOptions(random, second)
		wantOut, wantErr := modelRead(lines, o)
		r, err := Stored(dir, o)
		if gotOut, gotErr := everything(t, r, err); gotOut != wantOut || gotErr != wantErr {
			t.Fatalf("stored, seed %d, %s: got %q and %q, want %q and %q", seed, describe(o), gotOut, gotErr, wantOut, wantErr)
		}
	}
}
