// Package names is the DNS resolver of containers on user-defined networks: it
// answers for names of their peers, and forwards other questions to the machine's
// servers.
package names

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Table is what one container may know of its peers. It is immutable.
type Table struct {
	addresses map[string][]netip.Addr // by name: lower case, with its final dot
	names     map[netip.Addr][]string
	forward   bool
	upstreams []string // with their ports; empty: the machine's
}

// NewTable builds a table from a backend's request, and skips invalid addresses.
func NewTable(request *agentv1.NamesRequest) *Table {
	table := &Table{
		addresses: map[string][]netip.Addr{}, names: map[netip.Addr][]string{}, forward: request.Forward,
		upstreams: WithPorts(request.Upstreams, "53"),
	}
	for _, network := range request.Networks {
		for _, peer := range network.Peers {
			for _, text := range peer.Addresses {
				if address, err := netip.ParseAddr(text); err == nil {
					table.add(network.Name, peer.Names, address.Unmap())
				}
			}
		}
	}
	return table
}

func (t *Table) add(network string, names []string, address netip.Addr) {
	for _, name := range names {
		for _, key := range []string{canonical(name), canonical(name + "." + network)} {
			t.addresses[key] = append(t.addresses[key], address)
		}
	}
	if len(names) > 0 {
		t.names[address] = append(t.names[address], dns.Fqdn(names[0]+"."+network))
	}
}

// Addresses returns a name's addresses; known reports whether the table has the
// name.
func (t *Table) Addresses(name string) (addresses []netip.Addr, known bool) {
	addresses, known = t.addresses[canonical(name)]
	return addresses, known
}

// Names returns the names of an address, for a question such as
// "2.0.18.172.in-addr.arpa.".
func (t *Table) Names(question string) []string {
	address, ok := addressOf(question)
	if !ok {
		return nil
	}
	return t.names[address]
}

func canonical(name string) string { return strings.ToLower(dns.Fqdn(name)) }

// addressOf parses the name of a reverse question.
func addressOf(question string) (netip.Addr, bool) {
	name := canonical(question)
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(labels, ".")
		reverse(parts)
		address, err := netip.ParseAddr(strings.Join(parts, "."))
		return address, err == nil && address.Is4()
	}
	if labels, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		digits := strings.Split(labels, ".")
		if len(digits) != 32 {
			return netip.Addr{}, false
		}
		reverse(digits)
		var text strings.Builder
		for i, digit := range digits {
			if i > 0 && i%4 == 0 {
				text.WriteByte(':')
			}
			text.WriteString(digit)
		}
		address, err := netip.ParseAddr(text.String())
		return address, err == nil
	}
	return netip.Addr{}, false
}

func reverse(labels []string) {
	for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
		labels[i], labels[j] = labels[j], labels[i]
	}
}
