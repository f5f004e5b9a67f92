package containerinit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// role is what a client may ask of the agent; the zero role, nothing.
type role int

const (
	_ role = iota
	// controls: everything.
	controls
	// partners are agents of containers that share this one's network: they see
	// where its processes listen and connect to that.
	partners
)

// partnerURI is the name in the certificate of a partner.
func partnerURI(containerID string) *url.URL {
	return containerURI(containerID).JoinPath("partner")
}

// partnerCalls are all that a partner may ask.
var partnerCalls = map[string]bool{
	agentv1connect.AgentServiceListenersProcedure: true,
	agentv1connect.AgentServiceTunnelProcedure:    true,
}

type roleKey struct{}

func roleOf(ctx context.Context) role {
	known, _ := ctx.Value(roleKey{}).(role)
	return known
}

// withRole notes with each connection what its client may ask: where nobody
// vouches for the client, nothing.
func (r *clientRule) withRole(ctx context.Context, conn net.Conn) context.Context {
	var of role
	if admitted, ok := conn.(*admittedConn); ok {
		of = r.roleOf(admitted.secure.ConnectionState())
	}
	return context.WithValue(ctx, roleKey{}, of)
}

// roleOf is the role of a client that was admitted.
func (r *clientRule) roleOf(state tls.ConnectionState) role {
	if len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].URIs) != 1 {
		return 0
	}
	switch state.PeerCertificates[0].URIs[0].String() {
	case containerURI(r.containerID).String():
		return controls
	case partnerURI(r.containerID).String():
		return partners
	}
	return 0
}

var errNobody = connect.NewError(connect.CodePermissionDenied, errors.New("nobody vouches for this client"))

var errNotForPartners = connect.NewError(connect.CodePermissionDenied,
	errors.New("a container that shares the network may connect to its listeners, and nothing else"))

// byRole refuses what a client's role does not cover.
func byRole(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch of := roleOf(r.Context()); {
		case of == controls, of == partners && partnerCalls[r.URL.Path]:
			next.ServeHTTP(w, r)
		case of == partners:
			_ = refuse.Write(w, r, errNotForPartners)
		default:
			_ = refuse.Write(w, r, errNobody)
		}
	})
}
