package server

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"

	controlapi "github.com/moby/buildkit/api/services/control"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
)

const (
	// maxAnswerHeaders bounds the headers of an answer from a client's session, as fields: gRPC keeps 16 MiB, some three times as much
	// in memory, of each call, as those that ask whether the session is alive.
	maxAnswerHeaders = 16 << 10
	// maxTrailers bounds those that end a call. Of an error they have the stacks, each with the arguments of the client's command.
	maxTrailers = 256 << 10
)

// answerHeaders reads the headers of the frames that a session sends.
type answerHeaders struct {
	frames
	// Frames with fields of the same answer so far.
	block  bytes.Buffer
	framer *http2.Framer
}

// part fails once an answer's headers are too large.
func (h *answerHeaders) part(part []byte, isFirst bool) error {
	if kind := h.kind(); kind != http2.FrameHeaders && kind != http2.FrameContinuation {
		return nil
	}
	if isFirst {
		h.block.Write(h.header)
	}
	h.block.Write(part)
	if limit := h.limit(); h.block.Len() > limit {
		return tooLarge(limit)
	}
	if h.rest > 0 || !h.has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	return h.decode()
}

func (h *answerHeaders) limit() int {
	if http2.Flags(h.block.Bytes()[4]).Has(http2.FlagHeadersEndStream) {
		return maxTrailers
	}
	return maxAnswerHeaders
}

// decode measures the fields: a byte may stand for an earlier one of 4 KiB.
func (h *answerHeaders) decode() error {
	if h.framer == nil {
		h.framer = http2.NewFramer(nil, &h.block)
		h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	}
	limit := h.limit()
	h.framer.MaxHeaderListSize = uint32(limit)
	frame, err := h.framer.ReadFrame()
	h.block = bytes.Buffer{}
	if _, isOfCall := err.(http2.StreamError); err != nil && !isOfCall {
		return fmt.Errorf("the session's headers: %w", err)
	}
	if fields, ok := frame.(*http2.MetaHeadersFrame); ok && fields.Truncated {
		return tooLarge(limit)
	}
	return nil
}

func tooLarge(limit int) error {
	return fmt.Errorf("the session's headers have more than %d bytes", limit)
}

// sessionWriter hijacks a session's connection, with bounded headers.
type sessionWriter struct{ http.ResponseWriter }

// Hijack bounds what is read.
func (w sessionWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := w.ResponseWriter.(http.Hijacker).Hijack()
	return &sessionConn{Conn: conn}, buffered, err
}

type sessionConn struct {
	net.Conn
	headers answerHeaders
}

func (c *sessionConn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if err := c.headers.take(into[:n], c.headers.part); err != nil {
		return 0, err
	}
	return n, err
}

// calledSession is a session within a call, with bounded headers.
type calledSession struct {
	grpc.ServerStream
	headers answerHeaders
}

// RecvMsg bounds what is read.
func (s *calledSession) RecvMsg(into any) error {
	if err := s.ServerStream.RecvMsg(into); err != nil {
		return err
	}
	return s.headers.take(into.(*controlapi.BytesMessage).Data, s.headers.part)
}
