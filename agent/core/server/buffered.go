package server

import (
	"bufio"
	"net"
)

// readBuffer is how much is read of a connection at once. HTTP/2 reads a frame
// by its header of nine bytes and its payload, which clients of nghttp2 send in
// pieces of 16 KiB: with a buffer that is one system call for several frames.
const readBuffer = 64 << 10

// Buffered is a listener whose connections read ahead, and hold credit back. It
// is for connections without TLS, which has a buffer of its own.
func Buffered(listener net.Listener) net.Listener { return bufferedListener{listener} }

type bufferedListener struct{ net.Listener }

func (l bufferedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return HoldCredit(&bufferedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer)}), nil
}

type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }
