package handover

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"
)

// LogFailure returns the error message that follows the output of a failed log.
// framed: lines have Docker's frame headers.
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

// Framed returns data as one of Docker's frames.
func Framed(stream byte, data []byte) []byte {
	header := FrameHeader(stream, len(data))
	return append(header[:], data...)
}
