package containerinit

import (
	"crypto/tls"
	"net"

	"github.com/sockerless/sockerless/agent/core/server"
)

// admittedConn is the connection of a client that was admitted. net/http takes
// it for one without TLS and recognises HTTP/2 by its preface, since it speaks
// HTTP/2 over TLS on a *tls.Conn only.
type admittedConn struct {
	net.Conn
	secure *tls.Conn
}

func newAdmittedConn(secure *tls.Conn) *admittedConn {
	return &admittedConn{Conn: server.HoldCredit(secure), secure: secure}
}
