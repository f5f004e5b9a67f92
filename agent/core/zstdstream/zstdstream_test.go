package zstdstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// frame returns one that demands a window of 2^log bytes, with a content of
// zeros in blocks of a byte each.
func frame(log byte, blocks int) []byte {
	bytes := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3}
	for left := blocks; left > 0; left-- {
		const repeated, size = 1 << 1, 128 << 10
		header := uint32(size)<<3 | repeated
		if left == 1 {
			header |= 1
		}
		bytes = append(bytes, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return bytes
}

// wholeFrame returns one whose window is as large as the content that it
// announces.
func wholeFrame(content uint32) []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, byte(content), byte(content >> 8), byte(content >> 16), byte(content >> 24), 3, 0, 0, 0}
}

func open(t *testing.T, room *Room, stream []byte) (io.ReadCloser, error) {
	t.Helper()
	plain, err := room.Open(bufio.NewReader(bytes.NewReader(stream)), 1)
	if err == nil {
		t.Cleanup(func() { plain.Close() })
	}
	return plain, err
}

func TestWindowsAreBounded(t *testing.T) {
	small := frame(20, 1)
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		stream []byte
		bytes  int // -1: refused
	}{
		"of 8 MiB":                          {frame(23, 2), 256 << 10},
		"of 128 MiB":                        {frame(27, 2), 256 << 10},
		"of 256 MiB":                        {frame(28, 2), -1},
		"of 2 TiB":                          {frame(41, 2), -1},
		"of 32 MiB behind a small one":      {append(bytes.Clone(small), frame(25, 1)...), 256 << 10},
		"of 128 MiB behind a small one":     {append(bytes.Clone(small), frame(27, 1)...), -1},
		"of 128 MiB behind what is skipped": {append(bytes.Clone(skippable), frame(27, 1)...), 128 << 10},
		"of a whole content of 256 MiB":     {wholeFrame(256 << 20), -1},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := open(t, newRoom(), c.stream)
			assert.NilError(t, err)
			got, err := io.Copy(io.Discard, plain)
			if c.bytes < 0 && !errors.Is(err, ErrWindow) {
				t.Errorf("%d bytes, %v", got, err)
			}
			if c.bytes >= 0 && (err != nil || got != int64(c.bytes)) {
				t.Errorf("%d bytes, %v", got, err)
			}
		})
	}
}

func TestWindowsShareTheirRoom(t *testing.T) {
	for name, c := range map[string]struct {
		stream []byte
		most   int
	}{
		"usual":                  {frame(20, 1), room / usualWindow},
		"largest":                {frame(27, 1), room / largestWindow},
		"largest by its content": {wholeFrame(100 << 20), room / largestWindow},
	} {
		t.Run(name, func(t *testing.T) {
			shared := newRoom()
			for range c.most - 1 {
				_, err := open(t, shared, c.stream)
				assert.NilError(t, err)
			}
			last, err := open(t, shared, c.stream)
			assert.NilError(t, err)
			_, err = open(t, shared, c.stream)
			assert.Check(t, is.ErrorIs(err, ErrNoRoom), "one more")
			inTurn := make(chan error)
			go func() {
				plain, err := shared.OpenInTurn(context.Background(), bufio.NewReader(bytes.NewReader(c.stream)), 2)
				if err == nil {
					err = plain.Close()
				}
				inTurn <- err
			}()
			last.Close()
			last.Close()
			assert.Check(t, <-inTurn)
			ended, end := context.WithCancelCause(context.Background())
			cause := errors.New("enough")
			end(cause)
			if _, err := open(t, shared, c.stream); err != nil {
				t.Error("the room is not given back")
			}
			_, err = shared.OpenInTurn(ended, bufio.NewReader(bytes.NewReader(c.stream)), 2)
			assert.Check(t, is.ErrorIs(err, cause), "after the end")
		})
	}
}
