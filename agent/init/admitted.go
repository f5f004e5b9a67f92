package containerinit

import (
	"crypto/tls"
	"net"

	"github.com/sockerless/sockerless/agent/core/server"
)

// admittedConn is the connection of an admitted client. It hides the TLS from
// net/http, which then recognises HTTP/2 by its preface; over TLS it would
// require a *tls.Conn.
type admittedConn struct {
	net.Conn
	secure *tls.Conn
}

func newAdmittedConn(secure *tls.Conn) *admittedConn {
	return &admittedConn{Conn: server.HoldCredit(secure), secure: secure}
}
