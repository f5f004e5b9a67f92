package containerinit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/init/mirror"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// askedPatience is how long a DNS answer waits until the ports of the peer with
// that name can be connected to: less than DNS clients wait.
const askedPatience = 4 * time.Second

// peerage connects the container with others on its network that it cannot reach
// directly: the agent listens at loopback addresses on the ports where they
// listen, and the backend's relay connects it with their agents. A peer is
// mirrored only after the container's processes first resolve one of its names,
// so that unused peers occupy no ports.
type peerage struct {
	*mirror.Mirror
	partners *partnership

	following sync.Mutex

	mu     sync.Mutex
	told   []mirror.Partner
	at     map[netip.Addr]bool // their addresses
	kept   map[keptPort]bool   // ports reserved for the container's processes
	hosts  []netip.Addr        // in its hosts file
	wanted map[netip.Addr]bool
}

type keptPort struct {
	network string // as mirror has it
	port    uint16
}

func newPeerage(partners *partnership, logger *slog.Logger) *peerage {
	p := &peerage{partners: partners, wanted: make(map[netip.Addr]bool)}
	p.Mirror = mirror.New(mirror.Options{
		IsOwn:    partners.isAgents,
		IsKept:   p.isKept,
		Reserved: []netip.AddrPort{netip.AddrPortFrom(resolverAddress, resolverPort)},
		Address:  func() netip.Addr { return netip.Addr{} },
		Dial:     partners.relayed,
		Logger:   logger,
	})
	return p
}

func (p *peerage) isKept(network string, port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[keptPort{network, port}]
}

// isAt reports whether an address stands for a peer.
func (p *peerage) isAt(address netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[address]
}

// setPeers replaces the peers, and substitutes the container's own address for
// what stands for it.
func (p *partnership) setPeers(request *agentv1.NamesRequest) error {
	if len(request.Peers) > 0 && p.call == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("this agent calls no relay"))
	}
	told := make([]mirror.Partner, 0, len(request.Peers))
	for _, peer := range request.Peers {
		checked, err := p.checkPeer(peer)
		if err != nil {
			return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("peer %q: %w", peer.ContainerId, err))
		}
		told = append(told, checked)
	}
	for _, network := range request.Networks {
		for _, peer := range network.Peers {
			if !peer.Itself {
				continue
			}
			peer.Addresses = nil
			if own, found := ownAddress(); found {
				peer.Addresses = []string{own.String()}
			}
		}
	}
	p.peers.tell(told, request)
	return nil
}

func (p *partnership) checkPeer(peer *agentv1.Peer) (mirror.Partner, error) {
	checked, err := p.checkIdentity(peer.ContainerId, peer.Pin, peer.Certificates)
	if err == nil && len(peer.Addresses) == 0 {
		err = errors.New("an address is wanted")
	}
	if err != nil {
		return checked, err
	}
	for _, text := range peer.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return checked, err
		}
		if !address.Is4() || !address.IsLoopback() {
			return checked, fmt.Errorf("%s is no IPv4 address of the loopback", address)
		}
		checked.At = append(checked.At, address)
	}
	return checked, nil
}

// checkIdentity returns who a partner or peer is. It refuses certificates for another key.
func (p *partnership) checkIdentity(containerID string, pin []byte, chain [][]byte) (mirror.Partner, error) {
	checked := mirror.Partner{ContainerID: containerID, Pin: pin, Credentials: chain}
	switch {
	case !containerIDForm().MatchString(containerID):
		return checked, errors.New("64 hexadecimal digits are wanted")
	case len(pin) != 32:
		return checked, errors.New("a pin of 32 bytes is wanted")
	case len(chain) == 0:
		return checked, errors.New("a certificate is wanted")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err == nil && !p.key.PublicKey.Equal(leaf.PublicKey) {
		err = errors.New("the certificate is for another key")
	}
	return checked, err
}

func (p *peerage) tell(told []mirror.Partner, request *agentv1.NamesRequest) {
	p.mu.Lock()
	p.told, p.at, p.kept, p.hosts = told, make(map[netip.Addr]bool), make(map[keptPort]bool), nil
	for _, peer := range told {
		for _, address := range peer.At {
			p.at[address] = true
		}
	}
	for _, own := range request.OwnPorts {
		network := "tcp4"
		if own.Protocol == agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP {
			network = "udp4"
		}
		p.kept[keptPort{network, uint16(own.Port)}] = true
	}
	for _, entry := range request.Hosts {
		if address, err := netip.ParseAddr(entry.Address); err == nil {
			p.hosts = append(p.hosts, address)
		}
	}
	p.mu.Unlock()
	p.follow()
}

// begin forgets the peers that an earlier run used.
func (p *peerage) begin() {
	p.mu.Lock()
	clear(p.wanted)
	p.mu.Unlock()
	p.follow()
}

// ask starts to mirror the peers with these addresses, and waits for that, at
// most askedPatience.
func (p *peerage) ask(addresses []netip.Addr) {
	p.mu.Lock()
	var ids []string
	for _, address := range addresses {
		if !p.at[address] {
			continue
		}
		p.wanted[address] = true
		for _, peer := range p.told {
			if slices.Contains(peer.At, address) {
				ids = append(ids, peer.ContainerID)
			}
		}
	}
	p.mu.Unlock()
	if len(ids) > 0 {
		p.follow()
		p.Await(context.Background(), ids, askedPatience)
	}
}

// follow mirrors the peers that were asked for.
func (p *peerage) follow() {
	p.following.Lock() // the last to follow knows the latest
	defer p.following.Unlock()
	p.mu.Lock()
	wanted := maps.Clone(p.wanted)
	for _, address := range p.hosts {
		wanted[address] = true
	}
	var followed []mirror.Partner
	for _, peer := range p.told {
		if slices.ContainsFunc(peer.At, func(address netip.Addr) bool { return wanted[address] }) {
			followed = append(followed, peer)
		}
	}
	p.mu.Unlock()
	p.SetPartners(context.Background(), followed, 0)
}

// atInterface returns the listeners reachable from outside, with the interface's
// address in place of the unspecified one.
func atInterface(listeners mirror.Listeners) mirror.Listeners {
	own, found := ownAddress()
	reached := func(bound []netip.AddrPort) []netip.AddrPort {
		var outside []netip.AddrPort
		for _, at := range bound {
			switch {
			case at.Addr().IsUnspecified() && found:
				outside = append(outside, netip.AddrPortFrom(own, at.Port()))
			case at.Addr().IsGlobalUnicast():
				outside = append(outside, at)
			}
		}
		return slices.Compact(outside)
	}
	return mirror.Listeners{TCP: reached(listeners.TCP), UDP: reached(listeners.UDP)}
}
