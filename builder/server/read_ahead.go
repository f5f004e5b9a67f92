package server

import (
	"bufio"
	"net"
)

// readAhead is a hijacked connection of which the first bytes were read with the request.
type readAhead struct {
	net.Conn
	reader *bufio.Reader
}

func (c *readAhead) Read(into []byte) (int, error) { return c.reader.Read(into) }
