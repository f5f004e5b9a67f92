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
	// upstreamTimeout is the limit for one server's answer.
	upstreamTimeout = 4 * time.Second
	// mostForwarded bounds a container's pending forwarded questions: each holds
	// a socket.
	mostForwarded = 256
	// mostServers is how many servers are asked, as by the C library.
	mostServers = 3
)

var errNotForwarded = errors.New("every network of the container is internal")

// Upstreams returns the addresses, with ports, of the servers for names outside
// the table. It is called for each forwarded question.
type Upstreams func() ([]string, error)

// MachineUpstreams reads the machine's configuration anew each time: after a move
// to another network its servers differ.
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

// exchange asks the servers in turn, and returns an answer as it came: decoded, a hostile
// one takes hundreds of times its bytes. A server that fails counts like one that is
// silent.
func (f forwarder) exchange(table *Table, query *dns.Msg, network string) ([]byte, error) {
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
	var last []byte
	failures := []error{errors.New("no server could answer")}
	for _, server := range servers[:min(len(servers), mostServers)] {
		answer, code, err := f.ask(query, server, network)
		if f.ctx.Err() != nil {
			return nil, context.Cause(f.ctx)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if code != dns.RcodeServerFailure && code != dns.RcodeRefused {
			return answer, nil
		}
		last = answer
	}
	if last != nil {
		return last, nil
	}
	return nil, errors.Join(failures...)
}

// ask returns a server's answer and its code. A UDP answer that is longer than the asker
// accepts is cut to one byte more than that.
func (f forwarder) ask(query *dns.Msg, server, network string) (answer []byte, code int, err error) {
	client := dns.Client{Net: network, Timeout: upstreamTimeout}
	conn, err := client.DialContext(f.ctx, server)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { conn.Close() })() // interrupts a waiting read
	_ = conn.SetDeadline(time.Now().Add(upstreamTimeout))
	conn.UDPSize = uint16(min(acceptedSize(query)+1, dns.MaxMsgSize))
	if err := conn.WriteMsg(query); err != nil {
		return nil, 0, err
	}
	for {
		var header dns.Header
		if answer, err = conn.ReadMsgHeader(&header); err != nil {
			return nil, 0, err
		}
		if header.Id == query.Id {
			return answer, int(header.Bits & 0xf), nil
		}
	}
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

// WithPorts appends a port to each address.
func WithPorts(servers []string, port string) []string {
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, net.JoinHostPort(server, port))
	}
	return addresses
}
