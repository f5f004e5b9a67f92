package server

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"golang.org/x/net/http2"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

func TestARequestInSmallPiecesIsCountedUntilItIsWhole(t *testing.T) {
	s, _ := running(t)
	frames, _ := clientFrames(t, s)
	fields := block(t, ":method", "POST", ":scheme", "http", ":authority", "builder", ":path", controlapi.Control_Solve_FullMethodName, "content-type", "application/grpc")
	assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields, EndHeaders: true}))
	assert.NilError(t, frames.WriteData(1, false, []byte{0, 0, 1, 0, 0}))
	const sent = 60
	for range sent {
		assert.NilError(t, frames.WriteData(1, false, make([]byte, 1000)))
	}
	untilHeld(t, s, func(sum int) bool { return sum >= callBytes+sent*2000 })
	assert.NilError(t, frames.WriteRSTStream(1, http2.ErrCodeCancel))
	untilHeld(t, s, func(sum int) bool { return sum == 0 })
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
		client.pieces = newPieces(holding{all, client})
		for _, stream := range []uint32{1, 3, 5, 7, 9} {
			client.pieces.header = append(client.pieces.header[:0], 0, 0, 0, 0, 0, 0, 0, 0, byte(stream))
			client.pieces.begin(0)
		}
		client.pieces.frames = newPieces(client.pieces.holding).frames
		for at := 0; at < text.Len(); at += length {
			assert.NilError(t, client.pieces.take(text.Bytes()[at:min(at+length, text.Len())], client.pieces.part))
		}
		unread, unfinished := map[uint32]int{}, map[uint32]int{}
		for stream, of := range client.pieces.of {
			unread[stream], unfinished[stream] = len(of.unread), of.piece
		}
		assert.DeepEqual(t, unread, map[uint32]int{1: 2, 3: 2, 5: 0, 7: 0, 9: 0})
		assert.DeepEqual(t, unfinished, map[uint32]int{1: 0, 3: 0, 5: headerBytes + 4, 7: 0, 9: headerBytes + 2})
		assert.Equal(t, all.sum, 7*headerBytes+2*(6+7+7+3+2+1+1)+4*unreadBytes, "in pieces of %d", length)
	}
}

func TestMessagesThatNobodyReadsAreCountedUntilTheirStreamIsClosed(t *testing.T) {
	s, _ := running(t)
	// No answer can be sent, so that the calls' streams outlive their handlers.
	frames, conn := clientFrames(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	fields := block(t, ":method", "POST", ":scheme", "http", ":authority", "builder", ":path", controlapi.Control_Info_FullMethodName, "content-type", "application/grpc")
	const calls, messages, length = 20, 100, 57
	for call := range uint32(calls) {
		assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*call + 1, BlockFragment: fields, EndHeaders: true}))
		assert.NilError(t, frames.WriteData(2*call+1, false, make([]byte, 5)))
		for range messages {
			assert.NilError(t, frames.WriteData(2*call+1, false, append([]byte{0, 0, 0, 0, length - 5}, make([]byte, length-5)...)))
		}
	}
	untilHeld(t, s, func(sum int) bool { return sum >= calls*(callBytes+messages*(2*length+headerBytes)) })
	for call := range uint32(calls) {
		assert.NilError(t, frames.WriteWindowUpdate(2*call+1, 1<<20))
	}
	untilHeld(t, s, func(sum int) bool { return sum == 0 })
}

// clientFrames connects as a client of BuildKit that writes its frames itself.
func clientFrames(t *testing.T, s *Server, settings ...http2.Setting) (*http2.Framer, net.Conn) {
	t.Helper()
	address, _ := served(t, s)
	conn, err := dialer(address, "/grpc", http.Header{})
	assert.NilError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, http2.ClientPreface)
	assert.NilError(t, err)
	frames := http2.NewFramer(conn, conn)
	assert.NilError(t, frames.WriteSettings(settings...))
	return frames, conn
}

// untilHeld waits until the calls of all clients hold so much.
func untilHeld(t *testing.T, s *Server, isReached func(sum int) bool) {
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
