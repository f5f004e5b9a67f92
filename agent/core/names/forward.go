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
	// machineConfiguration is read again for each question that is handed on: a
	// machine that moves to another network has other servers.
	machineConfiguration = "/etc/resolv.conf"
	// mostServers is how many are asked, as by the C library.
	mostServers = 3
)

var errNotForwarded = errors.New("every network of the container is internal")

// forwarder asks other servers, from the network of this process.
type forwarder struct {
	ctx           context.Context
	cancel        context.CancelFunc
	places        chan struct{}
	configuration string
}

func newForwarder() forwarder {
	ctx, cancel := context.WithCancel(context.Background())
	return forwarder{ctx: ctx, cancel: cancel, places: make(chan struct{}, mostForwarded), configuration: machineConfiguration}
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
		if servers, err = f.machineServers(); err != nil {
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

func (f forwarder) machineServers() ([]string, error) {
	configuration, err := dns.ClientConfigFromFile(f.configuration)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the machine's servers: %w", err)
	}
	return withPorts(configuration.Servers, configuration.Port), nil
}

func withPorts(servers []string, port string) []string {
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, net.JoinHostPort(server, port))
	}
	return addresses
}
