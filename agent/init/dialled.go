package containerinit

import (
	"net"

	"github.com/sockerless/sockerless/agent/core/server"
)

// dialledListener hands out connections that this process has made itself, to
// its backend and to nobody else.
type dialledListener struct{ net.Listener }

// dialledConn is one of them. The backend is its client.
type dialledConn struct{ net.Conn }

// Accept waits for the next connection that the backend uses.
func (l dialledListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &dialledConn{server.HoldCredit(conn)}, nil
}
