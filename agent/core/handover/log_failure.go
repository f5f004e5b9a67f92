package handover

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
)

// systemError is the stream of Docker's frames that has what went wrong.
const systemError byte = 3

// LogFailure is what the client of a log that fails gets behind what there is of it.
// framed says that its lines have Docker's headers.
func LogFailure(err error, framed bool) []byte {
	reason := err.Error()
	if told := new(connect.Error); errors.As(err, &told) {
		reason = told.Message()
	}
	text := fmt.Appendf(nil, "Error grabbing logs: %s\n", reason)
	if framed {
		return Framed(systemError, text)
	}
	return text
}

// Framed is data with Docker's header.
func Framed(stream byte, data []byte) []byte {
	header := FrameHeader(stream, len(data))
	return append(header[:], data...)
}
