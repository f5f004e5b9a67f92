package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

const (
	// upstreamTimeout is how long one server may take.
	upstreamTimeout = 4 * time.Second
	// mostForwarded bounds the questions of one container that are under way at
	// other servers: each holds a socket.
	mostForwarded = 256
	// mostServers is how many are asked, as by the C library.
	mostServers = 3
)

var errNotForwarded = errors.New("every network of the container is internal")

// Upstreams answers the addresses, with ports, of the servers that are asked
// where the table names none. It is called for each question that is handed on.
type Upstreams func() ([]string, error)

// MachineUpstreams are those of the machine's configuration, which is read anew
// each time: a machine that moves to another network has other servers.
func MachineUpstreams() ([]string, error) { return upstreamsOf("/etc/resolv.conf") }

// forwarder asks other servers, from the network of this process.
type forwarder struct {
	ctx       context.Context
	cancel    context.CancelFunc
	places    chan struct{}
	upstreams Upstreams
}

func newForwarder(upstreams Upstreams) forwarder {
	ctx, cancel := context.WithCancel(context.Background())
	return forwarder{ctx: ctx, cancel: cancel, places: make(chan struct{}, mostForwarded), upstreams: upstreams}
}

// exchange asks the servers one after the other. A server that cannot answer is
// no better than one that is silent.
func (f forwarder) exchange(table *Table, query *dns.Msg, network string) (*dns.Msg, error) {
	if !table.forward {
		return nil, errNotForwarded
	}
	select {
	case f.places <- struct{}{}:
		defer func() { <-f.places }()
	default:
		return nil, fmt.Errorf("%d questions are under way", mostForwarded)
	}
	servers := table.upstreams
	if len(servers) == 0 {
		var err error
		if servers, err = f.upstreams(); err != nil {
			return nil, err
		}
	}
	client := dns.Client{Net: network, Timeout: upstreamTimeout}
	var last *dns.Msg
	failures := []error{errors.New("no server could answer")}
	for _, server := range servers[:min(len(servers), mostServers)] {
		response, _, err := client.ExchangeContext(f.ctx, query, server)
		if f.ctx.Err() != nil {
			return nil, context.Cause(f.ctx)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		response.Id = query.Id
		if response.Rcode != dns.RcodeServerFailure && response.Rcode != dns.RcodeRefused {
			return response, nil
		}
		last = response
	}
	if last != nil {
		return last, nil
	}
	return nil, errors.Join(failures...)
}

func upstreamsOf(file string) ([]string, error) {
	configuration, err := dns.ClientConfigFromFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the machine's servers: %w", err)
	}
	return WithPorts(configuration.Servers, configuration.Port), nil
}

// WithPorts gives addresses a port.
func WithPorts(servers []string, port string) []string {
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, net.JoinHostPort(server, port))
	}
	return addresses
}
