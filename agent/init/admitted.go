package containerinit

import (
	"crypto/tls"
	"net"
)

// admittedConn is the connection of an admitted client. It hides the TLS from
// net/http, which then recognises HTTP/2 by its preface; over TLS it would
// require a *tls.Conn.
type admittedConn struct {
	net.Conn
	secure  *tls.Conn
	release func() // may be called again
}

// Close ends the connection.
func (c *admittedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
