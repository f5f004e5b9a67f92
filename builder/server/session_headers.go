package server

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"

	controlapi "github.com/moby/buildkit/api/services/control"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// maxBlock bounds the headers, and trailers, of an answer from a client's session: gRPC keeps 16 MiB of fields, some three
// times as much in memory, of each call, as those that ask whether the session is alive.
const maxBlock = 16 << 10

// headerBlocks reads the headers of the frames that a session sends.
type headerBlocks struct {
	header []byte
	// Bytes until the next frame, and of the block of headers so far.
	skip, block int
}

// take fails once a block is too large.
func (b *headerBlocks) take(bytes []byte) error {
	for len(bytes) > 0 {
		if b.skip > 0 {
			skipped := min(b.skip, len(bytes))
			b.skip, bytes = b.skip-skipped, bytes[skipped:]
			continue
		}
		taken := min(9-len(b.header), len(bytes))
		b.header, bytes = append(b.header, bytes[:taken]...), bytes[taken:]
		if len(b.header) < 9 {
			continue
		}
		b.skip = int(binary.BigEndian.Uint32(b.header) >> 8)
		switch http2.FrameType(b.header[3]) {
		case http2.FrameHeaders:
			b.block = b.skip
		case http2.FrameContinuation:
			b.block += b.skip
		}
		b.header = b.header[:0]
		if b.block > maxBlock {
			return fmt.Errorf("the session's headers have more than %d bytes", maxBlock)
		}
	}
	return nil
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
	blocks headerBlocks
}

func (c *sessionConn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if tooLarge := c.blocks.take(into[:n]); tooLarge != nil {
		return 0, tooLarge
	}
	return n, err
}

// calledSession is a session within a call, with bounded headers.
type calledSession struct {
	grpc.ServerStream
	blocks headerBlocks
}

// RecvMsg bounds what is read.
func (s *calledSession) RecvMsg(into any) error {
	if err := s.ServerStream.RecvMsg(into); err != nil {
		return err
	}
	return s.blocks.take(into.(*controlapi.BytesMessage).Data)
}
