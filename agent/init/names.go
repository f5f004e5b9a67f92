package containerinit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/names"
	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

var _ server.Named = (*container)(nil)

// Names configures the container's resolver; the first call opens it.
func (c *container) Names(_ context.Context, request *agentv1.NamesRequest) error {
	if err := c.partners.setPeers(request); err != nil {
		return err
	}
	if err := c.names.readdress(request.Hosts); err != nil {
		return err
	}
	return c.names.setTable(names.NewTable(request), len(request.Networks) > 0)
}

// nameService manages name resolution in the container: /etc/hosts,
// /etc/resolv.conf and, once there are names to serve, a resolver on 127.0.0.11.
type nameService struct {
	logger  *slog.Logger
	refusal error              // why no resolver can be opened; nil: one can
	asked   func([]netip.Addr) // called with the addresses of a name before they are answered

	mu       sync.Mutex
	hosts    *managedFile
	resolv   *managedFile
	settings *agentv1.ResolverSettings // of the last start; nil: it set nothing
	resolver *names.Resolver           // nil: no names to serve
	linked   []*agentv1.HostsEntry     // the latest addresses of linked containers
}

func newNameService(own *powers, asked func([]netip.Addr), logger *slog.Logger) *nameService {
	n := &nameService{logger: logger, asked: asked, hosts: openManaged("/etc/hosts"), resolv: openManaged("/etc/resolv.conf")}
	if !own.pidOne {
		n.hosts.refusal, n.resolv.refusal = errNotPIDOne, errNotPIDOne
	}
	n.refusal = n.resolv.refusal
	if !own.effective.Has(unix.CAP_NET_BIND_SERVICE) && firstUnprivilegedPort() > resolverPort {
		n.refusal = errors.New("may not bind port 53")
	}
	return n
}

const resolverPort = 53

func firstUnprivilegedPort() int {
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 1024
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 1024
	}
	return port
}

func (n *nameService) limitations() []string {
	var list []string
	if n.hosts.refusal != nil {
		list = append(list, fmt.Sprintf("cannot add host names: %v", n.hosts.refusal))
	}
	if n.resolv.refusal != nil {
		list = append(list, fmt.Sprintf("cannot change the resolver's configuration: %v", n.resolv.refusal))
	}
	if n.refusal != nil {
		list = append(list, fmt.Sprintf("cannot answer the names of other containers: %v", n.refusal))
	}
	return list
}

// prepare writes the files for a run. Failing to write the container's own name
// does not prevent a start, since every container has one.
func (n *nameService) prepare(request *agentv1.StartRequest) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	entries := request.ExtraHosts
	if own := ownEntry(request.Hostname); own != nil {
		entries = append(slices.Clone(entries), own)
	}
	if len(entries) > 0 || n.hosts.current != n.hosts.given {
		err := n.hosts.write(names.Readdress(names.Hosts(n.hosts.given, entries), n.linked))
		if err != nil && len(request.ExtraHosts) > 0 {
			return fmt.Errorf("add host names: %w", err)
		}
		if err != nil {
			n.logger.Warn("the container's own name is not in its hosts file", "error", err)
		}
	}
	n.settings = nil
	if r := request.Resolver; len(r.GetServers())+len(r.GetSearch())+len(r.GetOptions()) > 0 {
		n.settings = r
	}
	return n.configure()
}

// readdress updates the addresses of linked containers.
func (n *nameService) readdress(linked []*agentv1.HostsEntry) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.linked = linked
	if err := n.hosts.readdress(linked); err != nil {
		return fmt.Errorf("tell where linked containers are: %w", err)
	}
	return nil
}

// configure writes resolv.conf according to the settings and the resolver. n.mu
// is held.
func (n *nameService) configure() error {
	content := n.resolv.given
	if n.settings != nil || n.resolver != nil {
		configuration := names.ParseConfiguration(content).With(n.settings)
		if n.resolver != nil {
			configuration = configuration.ByResolver()
		}
		content = configuration.String()
	}
	if err := n.resolv.write(content); err != nil {
		return fmt.Errorf("configure the resolver: %w", err)
	}
	return nil
}

// upstreams are the servers named by the platform or the last start.
func (n *nameService) upstreams() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	servers := names.ParseConfiguration(n.resolv.given).With(n.settings).Servers
	servers = slices.DeleteFunc(slices.Clone(servers), func(server string) bool {
		return server == names.ResolverAddress.String() // it would ask itself
	})
	return names.WithPorts(servers, strconv.Itoa(resolverPort)), nil
}

// setTable opens the resolver only if there are names to serve.
func (n *nameService) setTable(table *names.Table, asked bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.resolver != nil {
		n.resolver.SetTable(table)
		return nil
	}
	if !asked {
		return nil
	}
	if n.refusal != nil {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("cannot answer names: %w", n.refusal))
	}
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: names.ResolverAddress, Port: resolverPort})
	if err != nil {
		return fmt.Errorf("open the resolver: %w", err)
	}
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: names.ResolverAddress, Port: resolverPort})
	if err != nil {
		return errors.Join(fmt.Errorf("open the resolver: %w", err), packets.Close())
	}
	n.resolver = names.Serve(packets, listener, table, names.Options{Upstreams: n.upstreams, Asked: n.asked, Logger: n.logger})
	if err := n.configure(); err != nil {
		go n.resolver.Close() // a pending question may wait for n.mu
		n.resolver = nil
		return err
	}
	return nil
}

// ownEntry is the container's entry for itself; nil: none.
func ownEntry(hostname string) *agentv1.HostsEntry {
	address, found := ownAddress()
	if hostname == "" || !found {
		return nil
	}
	entry := &agentv1.HostsEntry{Address: address.String(), Names: []string{hostname}}
	if short, _, dotted := strings.Cut(hostname, "."); dotted {
		entry.Names = append(entry.Names, short)
	}
	return entry
}

// ownAddress is the address by which others reach the container. Link-local
// addresses are the platform's own.
func ownAddress() (netip.Addr, bool) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	var found netip.Addr
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if prefix.Addr().Is4() {
			return prefix.Addr(), true
		}
		if !found.IsValid() {
			found = prefix.Addr()
		}
	}
	return found, found.IsValid()
}
