package callback

import (
	"bufio"
	"net"
	"sync"
)

// readBuffer is the read size of a connection.
const readBuffer = 64 << 10

// usedConn is a connection whose first bytes were read to detect its use.
type usedConn struct {
	net.Conn
	reader *bufio.Reader
	free   func() // its place
	once   sync.Once
}

func (c *usedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// Close ends the connection.
func (c *usedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}
