package callback

import (
	"bufio"
	"net"
	"sync"
)

// readBuffer is how much is read of a connection at once.
const readBuffer = 64 << 10

// usedConn is a connection whose first bytes were read to see that it is used.
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
