package server

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"golang.org/x/net/http2"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

func TestARequestInSmallPiecesIsCountedUntilItIsWhole(t *testing.T) {
	s, _ := running(t)
	address, _ := served(t, s)
	conn, err := dialer(address, "/grpc", http.Header{})
	assert.NilError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, http2.ClientPreface)
	assert.NilError(t, err)
	frames := http2.NewFramer(conn, conn)
	assert.NilError(t, frames.WriteSettings())
	fields := block(t, ":method", "POST", ":scheme", "http", ":authority", "builder", ":path", controlapi.Control_Solve_FullMethodName, "content-type", "application/grpc")
	assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields, EndHeaders: true}))
	assert.NilError(t, frames.WriteData(1, false, []byte{0, 0, 1, 0, 0}))
	const sent = 60
	for range sent {
		assert.NilError(t, frames.WriteData(1, false, make([]byte, 1000)))
	}
	held := func(isReached func(sum int) bool) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			s.held.mu.Lock()
			defer s.held.mu.Unlock()
			if !isReached(s.held.sum) {
				return poll.Continue("%d bytes", s.held.sum)
			}
			return poll.Success()
		})
	}
	held(func(sum int) bool { return sum >= callBytes+sent*2000 })
	assert.NilError(t, frames.WriteRSTStream(1, http2.ErrCodeCancel))
	held(func(sum int) bool { return sum == 0 })
}

func TestMessagesAreReadHoweverTheyAreCut(t *testing.T) {
	var text bytes.Buffer
	text.WriteString(http2.ClientPreface)
	frames := http2.NewFramer(&text, nil)
	for _, each := range []struct {
		stream uint32
		end    bool
		data   []byte
	}{
		{1, false, []byte{0, 0, 0, 0, 3, 1}},    // a piece of a message
		{3, false, []byte{0, 0, 0, 0, 0, 0, 0}}, // a message, and a piece of the next one's header
		{1, false, []byte{2, 3, 0, 0, 0, 0, 1}}, // the message's end, and the next one's header
		{3, false, []byte{0, 0, 0}},             // an empty message
		{5, true, []byte{0, 0}},                 // it ends
		{1, false, make([]byte, 1)},
		{7, false, append([]byte{0, 0, 0, 8, 0}, make([]byte, 2000)...)},
		{9, false, []byte{0}},
	} {
		assert.NilError(t, frames.WriteSettings())
		assert.NilError(t, frames.WriteData(each.stream, each.end, each.data))
	}
	for _, length := range []int{1, 5, 9, 10, 1000, text.Len()} {
		client := &connection{}
		all := &held{limit: maxHeld, by: map[*connection]int{client: 0}}
		read := newPieces(holding{all, client})
		for at := 0; at < text.Len(); at += length {
			assert.NilError(t, read.take(text.Bytes()[at:min(at+length, text.Len())], read.part))
		}
		assert.Equal(t, all.sum, headerBytes+2, "in pieces of %d", length)
		assert.Equal(t, len(read.of), 2)
	}
}
