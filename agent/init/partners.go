package containerinit

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/names"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/init/mirror"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

var _ server.Joined = (*container)(nil)

// partnership connects the container with others that share its network.
type partnership struct {
	*mirror.Mirror
	key       *ecdsa.PrivateKey // shown to partners' agents; it never leaves the process
	publicKey []byte            // SubjectPublicKeyInfo, DER
	port      uint16            // the agent's own; 0: none
	peers     *peerage
	call      func(ctx context.Context, containerID string) (net.Conn, error) // nil: there is no relay
}

func newPartnership(settings *settings, logger *slog.Logger) (*partnership, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key for partners: %w", err)
	}
	p := &partnership{key: key, port: portOf(cmp.Or(settings.listen, settings.joined))}
	if p.publicKey, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return nil, fmt.Errorf("make the key for partners: %w", err)
	}
	p.peers = newPeerage(p, logger)
	p.Mirror = mirror.New(mirror.Options{
		Listening: mirror.Listening,
		IsOwn:     func(address netip.AddrPort) bool { return p.isAgents(address) || p.peers.isAt(address.Addr()) },
		Reserved:  []netip.AddrPort{netip.AddrPortFrom(resolverAddress, resolverPort)},
		Address: func() netip.Addr {
			address, _ := ownAddress()
			return address
		},
		Dial: func(partner mirror.Partner, credentials func() [][]byte) mirror.Link {
			if partner.Agent.IsValid() {
				return mirror.NewLink(partner, key, credentials)
			}
			return p.relayed(partner, credentials)
		},
		Logger: logger,
	})
	return p, nil
}

// relayed is a link to an agent that cannot be dialled.
func (p *partnership) relayed(to mirror.Partner, credentials func() [][]byte) mirror.Link {
	return mirror.NewRelayedLink(to, p.key, credentials, func(ctx context.Context) (net.Conn, error) {
		return p.call(ctx, to.ContainerID)
	})
}

func portOf(listen string) uint16 {
	_, text, err := net.SplitHostPort(listen)
	if err != nil {
		return 0
	}
	port, _ := strconv.ParseUint(text, 10, 16)
	return uint16(port)
}

// isAgents reports whether an address is the agent's own port or the resolver.
func (p *partnership) isAgents(address netip.AddrPort) bool {
	return p.port != 0 && address.Port() == p.port ||
		address.Port() == resolverPort && address.Addr() == resolverAddress
}

var resolverAddress, _ = netip.AddrFromSlice(names.ResolverAddress.To4())

// allow refuses addresses that a partner may not reach. It may reach what a
// process in the same network namespace could, except datagrams, the agent
// itself, and mirrors, through which a connection could loop.
func (p *partnership) allow(network string, address netip.AddrPort) error {
	if network != "tcp" {
		return connect.NewError(connect.CodePermissionDenied, errors.New("containers that share a network share their TCP listeners only"))
	}
	address = netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port())
	if !isOwnAddress(address.Addr()) {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s is not an address of this container", address.Addr()))
	}
	if p.isAgents(address) || p.peers.isAt(address.Addr()) || p.Holds(address) {
		return unix.ECONNREFUSED
	}
	return nil
}

// allowPeer refuses addresses that a peer may not reach. It may reach listeners
// at the interface, as from outside, but not on the loopback, where servers grant
// more.
func (p *partnership) allowPeer(address netip.AddrPort) error {
	address = netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port())
	if address.Addr().IsLoopback() || !isOwnAddress(address.Addr()) {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s is not an address by which others reach this container", address.Addr()))
	}
	if p.isAgents(address) || p.Holds(address) {
		return unix.ECONNREFUSED
	}
	return nil
}

func isOwnAddress(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(candidate net.Addr) bool {
		prefix, err := netip.ParsePrefix(candidate.String())
		return err == nil && prefix.Addr() == address && prefix.Addr().IsGlobalUnicast()
	})
}

// Listeners sends the addresses where the container's processes listen.
func (c *container) Listeners(ctx context.Context, tell func(*agentv1.ListenerTable) error) error {
	watch := c.partners.WatchAll
	translate := atInterface
	if roleOf(ctx) != peers {
		translate = func(listeners mirror.Listeners) mirror.Listeners { return listeners }
		watch = func(ctx context.Context, tell func(mirror.Listeners) error) error {
			return c.partners.Watch(ctx, func(own []netip.AddrPort) error { return tell(mirror.Listeners{TCP: own}) })
		}
	}
	err := watch(ctx, func(listeners mirror.Listeners) error { return tell(tableOf(translate(listeners))) })
	if errors.Is(err, mirror.ErrClosed) {
		return server.ErrLeaving
	}
	return err
}

// mostTold bounds the listeners of a protocol that partners are told: they mirror
// fewer, and read no message beyond [mirror.MaxAnswer].
const mostTold = 2048

func tableOf(listeners mirror.Listeners) *agentv1.ListenerTable {
	table := &agentv1.ListenerTable{}
	for protocol, bound := range map[agentv1.TransportProtocol][]netip.AddrPort{
		agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP: listeners.TCP,
		agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP: listeners.UDP,
	} {
		for _, listener := range bound[:min(len(bound), mostTold)] {
			table.Listeners = append(table.Listeners, &agentv1.Listener{
				Protocol: protocol, Address: listener.Addr().String(), Port: uint32(listener.Port())})
		}
	}
	return table
}

// Partners sets the containers with which this one shares a network.
func (c *container) Partners(ctx context.Context, request *agentv1.PartnersRequest) (*agentv1.PartnersResponse, error) {
	told := make([]mirror.Partner, 0, len(request.Partners))
	for _, partner := range request.Partners {
		checked, err := c.partners.check(partner)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("partner %q: %w", partner.ContainerId, err))
		}
		told = append(told, checked)
	}
	response := &agentv1.PartnersResponse{}
	wait := time.Duration(request.WaitMs) * time.Millisecond
	for id, failure := range c.partners.SetPartners(ctx, told, wait) {
		response.Failures = append(response.Failures, &agentv1.PartnerFailure{ContainerId: id, Message: failure.Error()})
	}
	return response, nil
}

func (p *partnership) check(partner *agentv1.Partner) (mirror.Partner, error) {
	checked, err := p.checkIdentity(partner.ContainerId, partner.Pin, partner.Certificates)
	if err == nil {
		checked.Agent, err = p.agentOf(partner)
	}
	return checked, err
}

// agentOf is the address of a partner's agent; invalid: reached through the
// relay.
func (p *partnership) agentOf(partner *agentv1.Partner) (netip.AddrPort, error) {
	if partner.Host == "" && p.call != nil {
		return netip.AddrPort{}, nil
	}
	address, err := netip.ParseAddr(partner.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if partner.Port < 1 || partner.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("port %d is out of range", partner.Port)
	}
	return netip.AddrPortFrom(address, uint16(partner.Port)), nil
}
