package containerinit

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
)

var _ server.Reachable = (*container)(nil)

// DialPort connects to a port as the container sees it; at 0.0.0.0 to listeners
// at its interface, as from outside.
func (c *container) DialPort(ctx context.Context, network string, address netip.AddrPort) (net.Conn, error) {
	var refusal error
	switch roleOf(ctx) {
	case partners:
		refusal = c.partners.allow(network, address)
	case peers:
		refusal = c.partners.allowPeer(address)
	}
	if refusal == nil {
		refusal = opens(ctx, network)
	}
	if refusal != nil {
		return nil, refusal
	}
	if address.Addr().IsUnspecified() {
		own, ok := ownAddress()
		if !ok {
			return nil, unix.EADDRNOTAVAIL
		}
		address = netip.AddrPortFrom(own, address.Port())
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address.String())
	if err != nil || network != "udp" {
		return conn, err
	}
	return bindToRun(conn, c.Sessions), nil
}

// boundConn is closed at the end of the container's run.
type boundConn struct {
	net.Conn
	cancel context.CancelFunc
}

func bindToRun(conn net.Conn, sessions *session.Sessions) net.Conn {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_ = sessions.WaitEnded(ctx) // or the connection was closed
		conn.Close()
	}()
	return &boundConn{conn, cancel}
}

// Close ends the connection.
func (c *boundConn) Close() error {
	c.cancel()
	return c.Conn.Close()
}
