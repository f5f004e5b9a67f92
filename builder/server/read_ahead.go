package server

import (
	"bufio"
	"net"
)

// readAhead is a hijacked connection with bytes already buffered after the request.
type readAhead struct {
	net.Conn
	reader *bufio.Reader
}

func (c *readAhead) Read(into []byte) (int, error) { return c.reader.Read(into) }
