package callback

import (
	"encoding/binary"
	"io"
	"net/http"
	"sync"
)

// wholeFrames writes each WebSocket frame in one piece. The library writes pieces
// of 4 KiB, each of which would be a TLS record, a packet, and a read in the
// relay.
type wholeFrames struct {
	io.ReadWriteCloser
	kept *[]byte // the beginning of a frame; nil: there is none
}

// frameBuffers are for frames being written: most connections are idle.
var frameBuffers = sync.Pool{New: func() any {
	buffer := make([]byte, 0, usualFrame)
	return &buffer
}}

func (w *wholeFrames) Write(p []byte) (int, error) {
	if w.kept == nil {
		w.kept = frameBuffers.Get().(*[]byte)
	}
	buffer := append(*w.kept, p...)
	*w.kept = buffer
	whole := 0
	for size := frameSize(buffer); size > 0 && whole+size <= len(buffer); size = frameSize(buffer[whole:]) {
		whole += size
	}
	if whole == 0 {
		return len(p), nil
	}
	_, err := w.ReadWriteCloser.Write(buffer[:whole])
	rest := copy(buffer, buffer[whole:])
	*w.kept = buffer[:rest]
	if rest == 0 {
		if cap(buffer) <= usualFrame {
			frameBuffers.Put(w.kept)
		}
		w.kept = nil
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// usualFrame is the length of a link's longest frame.
const usualFrame = readAtOnce

// frameSize is the length of the frame that begins here (RFC 6455, 5.2), header
// included. 0: the header is incomplete.
func frameSize(frame []byte) int {
	if len(frame) < 2 {
		return 0
	}
	head, length := 2, uint64(frame[1]&0x7f)
	switch length {
	case 126:
		head += 2
	case 127:
		head += 8
	}
	if len(frame) < head {
		return 0
	}
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(frame[2:]))
	case 127:
		length = binary.BigEndian.Uint64(frame[2:])
	}
	if frame[1]&0x80 != 0 {
		head += 4
	}
	return head + int(length)
}

// framing makes the WebSockets of its requests write whole frames.
type framing struct{ http.RoundTripper }

func (f framing) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := f.RoundTripper.RoundTrip(request)
	if err == nil && response.StatusCode == http.StatusSwitchingProtocols {
		if upgraded, ok := response.Body.(io.ReadWriteCloser); ok {
			response.Body = &wholeFrames{ReadWriteCloser: upgraded}
		}
	}
	return response, err
}
