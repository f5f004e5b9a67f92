package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/names"
	"github.com/sockerless/sockerless/agent/core/netns"
	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// networkedAgent is the agent of a container that may have a network of its own.
type networkedAgent struct {
	*agent
	resolver *resolver
	hosts    string // path of the container's hosts file
}

var (
	_ server.Named    = (*networkedAgent)(nil)
	_ server.Diffable = (*networkedAgent)(nil)
)

// Names configures the container's resolver; the first call opens it.
func (a *networkedAgent) Names(_ context.Context, request *agentv1.NamesRequest) error {
	err := names.ReaddressFile(a.hosts, request.Hosts)
	if err != nil { // the container may hold a lease on it
		err = fmt.Errorf("tell where linked containers are: %w", err)
	}
	return errors.Join(err, a.resolver.setTable(names.NewTable(request), len(request.Networks) > 0))
}

// resolver runs in the container's network namespace once it has names to serve.
// A container without user-defined networks has none.
type resolver struct {
	namespace string // path; empty: the machine's own network
	logger    *slog.Logger

	mu     sync.Mutex
	opened *names.Resolver
	closed bool
}

// setTable opens the resolver only if there are names to serve.
func (r *resolver) setTable(table *names.Table, asked bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		// Nobody can ask any more. A container that could not be created gets its
		// names before Start, whose response has the reason.
		return nil
	case r.namespace == "":
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the container has no network of its own"))
	case r.opened != nil:
		r.opened.SetTable(table)
		return nil
	case !asked:
		return nil
	}
	namespace, err := os.Open(r.namespace)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer namespace.Close()
	packets, listener, err := listenInside(namespace)
	if err != nil {
		return fmt.Errorf("open the resolver's sockets: %w", err)
	}
	if err := redirectResolver(namespace, packets.LocalAddr().(*net.UDPAddr).Port, listener.Addr().(*net.TCPAddr).Port); err != nil {
		return errors.Join(fmt.Errorf("redirect questions to the resolver: %w", err), packets.Close(), listener.Close())
	}
	r.opened = names.Serve(packets, listener, table, names.Options{Upstreams: names.MachineUpstreams, Logger: r.logger})
	return nil
}

func (r *resolver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.opened != nil {
		r.opened.Close()
	}
}

// listenInside opens both sockets in the namespace, on free ports: port 53 is
// left to the container.
func listenInside(namespace *os.File) (packets net.PacketConn, listener net.Listener, err error) {
	err = netns.Inside(int(namespace.Fd()), func() error {
		if packets, err = net.ListenUDP("udp4", &net.UDPAddr{IP: names.ResolverAddress}); err != nil {
			return err
		}
		if listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: names.ResolverAddress}); err != nil {
			return errors.Join(err, packets.Close())
		}
		return nil
	})
	return packets, listener, err
}
