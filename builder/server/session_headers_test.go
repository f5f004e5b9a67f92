package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"gotest.tools/v3/assert"
)

// block is a block of headers.
func block(t *testing.T, fields ...string) []byte {
	t.Helper()
	var made bytes.Buffer
	encoder := hpack.NewEncoder(&made)
	for at := 0; at < len(fields); at += 2 {
		assert.NilError(t, encoder.WriteField(hpack.HeaderField{Name: fields[at], Value: fields[at+1], Sensitive: true}))
	}
	return made.Bytes()
}

func TestASessionThatAnswersWithLongHeadersEnds(t *testing.T) {
	s, _ := running(t)
	address, _ := served(t, s)
	conn, err := dialer(address, "/session", http.Header{
		"X-Docker-Expose-Session-Uuid": {"one"}, "X-Buildkit-Session-Health-Custom-Timeout": {"1000"},
	})
	assert.NilError(t, err)
	defer conn.Close()
	assert.NilError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
	assert.NilError(t, err)
	frames := http2.NewFramer(conn, conn)
	assert.NilError(t, frames.WriteSettings())
	for asked := 0; ; {
		frame, err := frames.ReadFrame()
		if err != nil {
			assert.Equal(t, asked, 1, err)
			return
		}
		if _, isAsked := frame.(*http2.HeadersFrame); isAsked {
			if asked++; asked > 1 {
				t.Fatal("it is asked again")
			}
			id := frame.Header().StreamID
			long := block(t, ":status", "200", "content-type", "application/grpc", "long", strings.Repeat("~", maxBlock))
			assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: long[:maxBlock]}))
			assert.NilError(t, frames.WriteContinuation(id, true, long[maxBlock:]))
			assert.NilError(t, frames.WriteData(id, false, []byte{0, 0, 0, 0, 2, 8, 1})) // it is alive
			assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(t, "grpc-status", "0"), EndStream: true, EndHeaders: true}))
		}
	}
}

func TestHeadersOfASessionAreReadHoweverTheyAreCut(t *testing.T) {
	frame := func(kind http2.FrameType, length int) string {
		return string([]byte{0, byte(length >> 8), byte(length), byte(kind), 0, 0, 0, 0, 1}) + strings.Repeat("x", length)
	}
	half := maxBlock / 2
	for want, text := range map[bool]string{
		true:  frame(http2.FrameHeaders, half) + frame(http2.FrameContinuation, half) + frame(http2.FrameData, maxBlock) + frame(http2.FrameHeaders, half),
		false: frame(http2.FrameHeaders, half) + frame(http2.FrameContinuation, half) + frame(http2.FrameContinuation, 1),
	} {
		for _, length := range []int{1, 5, 9, 10, 4096, len(text)} {
			var blocks headerBlocks
			var err error
			for at := 0; at < len(text) && err == nil; at += length {
				err = blocks.take([]byte(text[at:min(at+length, len(text))]))
			}
			assert.Equal(t, err == nil, want)
		}
	}
}
