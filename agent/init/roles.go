package containerinit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// role is what a client may call; the zero role, nothing.
type role int

const (
	_ role = iota
	// controls: everything.
	controls
	// partners are agents of containers that share this one's network: they may
	// list its processes' listeners and connect to them.
	partners
	// peers are agents of containers on one network with this one: they may list
	// the listeners that its processes offer to others, and connect to them.
	peers
)

// partnerURI is the URI in a partner's certificate.
func partnerURI(containerID string) *url.URL {
	return containerURI(containerID).JoinPath("partner")
}

// peerURI is the URI in a peer's certificate.
func peerURI(containerID string) *url.URL {
	return containerURI(containerID).JoinPath("peer")
}

const (
	// maxTunnels bounds the tunnels of one partner or peer that are not opened yet,
	// those to TCP and those to UDP: none of these keeps another out.
	maxTunnels = 128
	// maxFollows bounds its calls of Listeners. An honest one follows once, and
	// twice while it connects anew.
	maxFollows = 4
	// maxTogether bounds each of these of all partners and peers.
	maxTogether = 512
)

// partnerCalls are the only calls of partners and peers, with their bounds.
func partnerCalls() map[string]*shares {
	return map[string]*shares{
		agentv1connect.AgentServiceListenersProcedure: newShares(maxFollows, maxTogether),
		agentv1connect.AgentServiceTunnelProcedure:    newShares(maxTunnels, maxTogether),
	}
}

// openTunnels are the bounds of opened tunnels by network.
func openTunnels() map[string]*shares {
	return map[string]*shares{"tcp": newShares(maxTunnels, maxTogether), "udp": newShares(maxTunnels, maxTogether)}
}

type roleKey struct{}

func roleOf(ctx context.Context) role {
	known, _ := ctx.Value(roleKey{}).(role)
	return known
}

type connectionKey struct{}

// withRole stores the client's connection in its context: nothing for a client
// without a certificate.
func (s *standings) withRole(ctx context.Context, conn net.Conn) context.Context {
	if admitted, ok := conn.(*admittedConn); ok {
		return context.WithValue(ctx, connectionKey{}, admitted.secure)
	}
	return ctx
}

// roleNow is the role that the agent's present standing gives a call's client, and
// the client's key: no role if its certificate is for an earlier standing.
func (s *standings) roleNow(ctx context.Context) (of role, key string) {
	secure, ok := ctx.Value(connectionKey{}).(*tls.Conn)
	if !ok {
		return 0, ""
	}
	state := secure.ConnectionState()
	return s.roleOf(state), keyOf(state)
}

// roleOf is the role that the present standing gives an admitted client.
func (s *standings) roleOf(state tls.ConnectionState) role { return s.Load().rule.roleOf(state) }

// keyOf is an admitted client's public key, as SubjectPublicKeyInfo; empty: it has
// shown none.
func keyOf(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	return string(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

// roleOf is the role of an admitted client.
func (r *clientRule) roleOf(state tls.ConnectionState) role {
	if len(state.PeerCertificates) == 0 {
		return 0
	}
	return r.roleBy(state.PeerCertificates[0])
}

// roleBy is the role in a client's certificate.
func (r *clientRule) roleBy(leaf *x509.Certificate) role {
	if len(leaf.URIs) != 1 {
		return 0
	}
	switch leaf.URIs[0].String() {
	case containerURI(r.containerID).String():
		return controls
	case partnerURI(r.containerID).String():
		return partners
	case peerURI(r.containerID).String():
		return peers
	}
	return 0
}

var errNobody = connect.NewError(connect.CodePermissionDenied, errors.New("nobody vouches for this client"))

var errNotForPartners = connect.NewError(connect.CodePermissionDenied,
	errors.New("another container may connect to this one's listeners, and nothing else"))

var errTooManyCalls = connect.NewError(connect.CodeResourceExhausted,
	errors.New("other containers have as many connections to this one as they may"))

// byRole refuses calls outside the client's role.
func (s *standings) byRole(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	calls, tunnels := partnerCalls(), openTunnels()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of, key := s.roleNow(r.Context())
		if of == 0 {
			_ = refuse.Write(w, r, errNobody)
			return
		}
		ctx := context.WithValue(r.Context(), roleKey{}, of)
		if of != controls {
			held := calls[r.URL.Path]
			if held == nil {
				_ = refuse.Write(w, r, errNotForPartners)
				return
			}
			if !held.take(key) {
				_ = refuse.Write(w, r, errTooManyCalls)
				return
			}
			p := &place{in: held, key: key, tunnels: tunnels}
			defer func() { p.in.give(key) }()
			ctx = context.WithValue(ctx, placeKey{}, p)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

type placeKey struct{}

// place is a call's among those of its partner or peer.
type place struct {
	in      *shares
	key     string
	tunnels map[string]*shares // by network
}

// opens moves a tunnel's call to those of its network, if these may be more.
func opens(ctx context.Context, network string) error {
	p, ok := ctx.Value(placeKey{}).(*place)
	if !ok {
		return nil
	}
	to := p.tunnels[network]
	if !to.take(p.key) {
		return errTooManyCalls
	}
	p.in.give(p.key)
	p.in = to
	return nil
}
