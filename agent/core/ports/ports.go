// Package ports publishes a container's ports on the machine: it holds the
// listening sockets and forwards TCP, half-closes included, and UDP, by client.
package ports

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// ErrAllocated means that a port is in use; the message is Docker's.
var ErrAllocated = errors.New("port is already allocated")

// freePortTries bounds the search for a port that is free in both families.
const freePortTries = 64

// Dial opens a connection as from the container's network namespace.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Set holds the published ports of one container.
type Set struct {
	forwarders []forwarder
	bound      []shimspec.BoundPort
	dial       Dial
	room       room
	logger     *slog.Logger

	freeing sync.Once
	freed   chan struct{} // closed by Free
	serving sync.WaitGroup
	cancel  context.CancelFunc
}

// forwarder is one listening socket.
type forwarder interface {
	serve(ctx context.Context)
	close()
}

// Bind opens the listening sockets. dialInside reaches loopback inside the
// container's namespace, for ports without a container address. After an error
// nothing stays bound.
func Bind(published []shimspec.PublishedPort, dialInside Dial, logger *slog.Logger) (*Set, error) {
	return bindIn(roomBeside(ownDescriptors()), published, dialInside, logger)
}

func bindIn(room room, published []shimspec.PublishedPort, dialInside Dial, logger *slog.Logger) (*Set, error) {
	set := &Set{dial: dialInside, room: room, logger: logger, freed: make(chan struct{})}
	for _, port := range published {
		if err := set.bind(port); err != nil {
			set.Close()
			return nil, err
		}
	}
	return set, nil
}

// Bound lists the bound ports.
func (s *Set) Bound() []shimspec.BoundPort { return s.bound }

// Serve starts to forward. Earlier connections have waited.
func (s *Set) Serve() {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	for _, f := range s.forwarders {
		s.serving.Add(1)
		go func() {
			defer s.serving.Done()
			f.serve(ctx)
		}()
	}
}

const (
	// lastWords bounds how long connections continue after their ports are freed,
	// to deliver a process's last output.
	lastWords = 2 * time.Second
	// hangUp bounds how long a client that has received everything may take to
	// hang up.
	hangUp = 200 * time.Millisecond
)

// Free frees the ports. Connections continue until they end, or until Close.
// Calling it again is harmless.
func (s *Set) Free() {
	s.freeing.Do(func() {
		for _, f := range s.forwarders {
			f.close()
		}
		close(s.freed)
	})
}

// Close frees the ports and ends every connection, after the container's output.
// Closing again is harmless.
func (s *Set) Close() {
	s.Free()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.serving.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(lastWords):
	}
	if s.cancel != nil {
		s.cancel()
	}
	<-ended
}

// bind opens the sockets of one published port.
func (s *Set) bind(port shimspec.PublishedPort) error {
	addresses, err := hostAddresses(port.HostIP)
	if err != nil {
		return err
	}
	first, last := port.HostPort, max(port.HostPort, port.HostPortEnd)
	if last > 0xffff || port.ContainerPort < 1 || port.ContainerPort > 0xffff {
		return fmt.Errorf("published port %d-%d:%d is out of range", first, last, port.ContainerPort)
	}
	tries := int(last-first) + 1
	if first == 0 {
		tries = freePortTries
	}
	for try := range tries {
		candidate := first
		if first != 0 {
			candidate += uint32(try)
		}
		if err = s.bindAll(port, addresses, uint16(candidate)); !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
	}
	if first != last || first == 0 {
		return fmt.Errorf("all ports are allocated: %w", ErrAllocated)
	}
	return err
}

// hostAddresses are the addresses to listen on. None means all of both families.
func hostAddresses(hostIP string) ([]netip.Addr, error) {
	if hostIP == "" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	address, err := netip.ParseAddr(hostIP)
	if err != nil {
		return nil, fmt.Errorf("invalid host address %q: %w", hostIP, err)
	}
	return []netip.Addr{address.Unmap()}, nil
}

// bindAll binds one port number on all addresses, or on none. With port 0 the
// first address chooses.
func (s *Set) bindAll(port shimspec.PublishedPort, addresses []netip.Addr, number uint16) error {
	var opened []forwarder
	var bound []shimspec.BoundPort
	for i, address := range addresses {
		f, got, err := s.listen(port, netip.AddrPortFrom(address, number))
		if i > 0 && noSuchFamily(err) {
			continue // the machine has no IPv6
		}
		if err != nil {
			for _, f := range opened {
				f.close()
			}
			return bindError(port, address, number, err)
		}
		number = got
		opened = append(opened, f)
		bound = append(bound, shimspec.BoundPort{
			Protocol:      port.Protocol,
			HostIP:        address.String(),
			HostPort:      uint32(got),
			ContainerPort: port.ContainerPort,
		})
	}
	s.forwarders = append(s.forwarders, opened...)
	s.bound = append(s.bound, bound...)
	return nil
}

func noSuchFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// bindFailure is an error in Docker's words.
type bindFailure struct {
	message string
	causes  []error
}

func (f *bindFailure) Error() string   { return f.message }
func (f *bindFailure) Unwrap() []error { return f.causes }

func bindError(port shimspec.PublishedPort, address netip.Addr, number uint16, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return &bindFailure{
			message: fmt.Sprintf("Bind for %s:%d failed: port is already allocated", address, number),
			causes:  []error{ErrAllocated, unix.EADDRINUSE},
		}
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno // without the address again
	}
	return &bindFailure{
		message: fmt.Sprintf("failed to bind host port for %s:%d:%s:%d/%s: %v",
			address, number, port.ContainerIP, port.ContainerPort, port.Protocol, err),
		causes: []error{err},
	}
}

// listen opens one socket and returns its port.
func (s *Set) listen(port shimspec.PublishedPort, address netip.AddrPort) (forwarder, uint16, error) {
	family := "4"
	if address.Addr().Is6() {
		family = "6"
	}
	target := target{port: port, inside: s.dial}
	switch port.Protocol {
	case "tcp":
		// "tcp6" sets IPV6_V6ONLY, so that both families can be bound.
		listener, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(address))
		if err != nil {
			return nil, 0, err
		}
		f := &tcpForwarder{listener: listener, target: target, room: s.room, freed: s.freed, logger: s.logger}
		return f, uint16(listener.Addr().(*net.TCPAddr).Port), nil
	case "udp":
		socket, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(address))
		if err != nil {
			return nil, 0, err
		}
		f, err := newUDPForwarder(socket, target.dial, family == "6", s.room.clients, s.logger)
		if err != nil {
			socket.Close()
			return nil, 0, err
		}
		return f, uint16(socket.LocalAddr().(*net.UDPAddr).Port), nil
	}
	return nil, 0, fmt.Errorf("publishing a %s port is not supported", port.Protocol)
}

// target is the destination of a published port.
type target struct {
	port   shimspec.PublishedPort
	inside Dial
}

// dial connects to the container.
func (t target) dial(ctx context.Context) (net.Conn, error) {
	number := fmt.Sprint(t.port.ContainerPort)
	if t.port.ContainerIP == "" {
		return t.inside(ctx, t.port.Protocol, net.JoinHostPort("127.0.0.1", number))
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, t.port.Protocol, net.JoinHostPort(t.port.ContainerIP, number))
}
