package containerinit

import (
	"crypto/tls"
	"net"

	"github.com/sockerless/sockerless/agent/core/server"
)

// admittedConn is the connection of a client that was admitted. To net/http it
// is one without TLS, whose HTTP/2 it recognises by its preface: HTTP/2 over TLS
// it writes to a *tls.Conn and nothing else.
type admittedConn struct {
	net.Conn
	secure *tls.Conn
}

func newAdmittedConn(secure *tls.Conn) *admittedConn {
	return &admittedConn{Conn: server.HoldCredit(secure), secure: secure}
}
