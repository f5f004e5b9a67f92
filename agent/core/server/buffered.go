package server

import (
	"bufio"
	"net"
)

// readBuffer is the read size of a connection. HTTP/2 reads a frame as a header
// of nine bytes and a payload, which nghttp2's clients send in pieces of 16 KiB:
// with a buffer one system call reads several frames.
const readBuffer = 64 << 10

// Buffered wraps a listener of a server of ForLocal so that its connections read ahead
// and hold back credit.
func Buffered(listener net.Listener) net.Listener { return bufferedListener{listener} }

type bufferedListener struct{ net.Listener }

func (l bufferedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	buffered := &bufferedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer)}
	return &creditConn{Conn: buffered, most: localCredit}, nil
}

type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }
