package ports

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

const (
	// udpIdle is how long an association lives without a datagram; dockerd's
	// value.
	udpIdle = 90 * time.Second
	// udpClients bounds the associations of one port; of more, the one that has been
	// silent for longest gives way.
	udpClients  = 1024
	maxDatagram = 64 << 10
	// sendBuffer bounds the replies of one port that the kernel holds. For an address
	// that nobody has any more, or that another client made up, it keeps some 200 KiB for
	// the three seconds in which it looks for it.
	sendBuffer = 32 << 20
)

// leastSilence is how long a client has been silent that gives way to another: one that
// goes on does not, however many come. A variable for tests.
var leastSilence = time.Second

// datagrams holds buffers for one datagram each.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// udpForwarder gives every client its own socket to the container, so that
// replies find their way back.
type udpForwarder struct {
	socket *net.UDPConn
	raw    syscall.RawConn // of the socket
	dial   func(context.Context) (net.Conn, error)
	ipv6   bool
	room   *semaphore.Weighted
	logger *slog.Logger

	// replying is held with the buffer of a reply: there is one for all clients.
	replying sync.Mutex

	mu      sync.Mutex
	clients map[netip.AddrPort]*udpClient
	silent  list.List // the clients, longest silent first
}

type udpClient struct {
	address netip.AddrPort
	// source is the control message that sends replies from the address to which
	// the client wrote: a machine has several.
	source []byte
	server net.Conn
	place  *list.Element // among the silent
	used   time.Time     // when a datagram came or went last
}

// ForwardDatagrams gives every client of an IPv4 socket its own connection from
// dial, which must be fast, until the socket is closed. A connection is a socket, or
// a net.Pipe, of which a read of no bytes waits for a datagram.
func ForwardDatagrams(ctx context.Context, socket *net.UDPConn, dial func(context.Context) (net.Conn, error), logger *slog.Logger) error {
	f, err := newUDPForwarder(socket, dial, false, semaphore.NewWeighted(udpClients), logger)
	if err != nil {
		return err
	}
	f.serve(ctx)
	return nil
}

func newUDPForwarder(socket *net.UDPConn, dial func(context.Context) (net.Conn, error), ipv6 bool, room *semaphore.Weighted, logger *slog.Logger) (*udpForwarder, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if ipv6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), level, option, 1)
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil { // without privilege
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("ask for datagrams' destination: %w", failed)
	}
	return &udpForwarder{
		socket: socket, raw: raw, dial: dial, ipv6: ipv6, room: room, logger: logger,
		clients: make(map[netip.AddrPort]*udpClient),
	}, nil
}

func (f *udpForwarder) close() { f.socket.Close() }

func (f *udpForwarder) serve(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	defer f.dropClients()
	buffer := make([]byte, maxDatagram)
	control := make([]byte, 128)
	for {
		n, controlLength, _, address, err := f.socket.ReadMsgUDPAddrPort(buffer, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a reply that could not be delivered (ICMP)
		}
		client := f.client(ctx, address, control[:controlLength], &answering)
		if client == nil {
			continue
		}
		_ = client.server.SetReadDeadline(time.Now().Add(udpIdle))
		if _, err := client.server.Write(buffer[:n]); err != nil {
			f.logger.Debug("forward a datagram", "error", err)
		}
	}
}

// client finds or creates the association of an address; nil drops the datagram.
func (f *udpForwarder) client(ctx context.Context, address netip.AddrPort, control []byte, answering *sync.WaitGroup) *udpClient {
	f.mu.Lock()
	known := f.clients[address]
	f.mu.Unlock()
	if known != nil {
		f.use(known)
		return known
	}
	if !f.takePlace() {
		f.logger.Debug("too many clients of forwarded UDP ports")
		return nil
	}
	server, err := f.dial(ctx)
	if err != nil {
		f.room.Release(1)
		f.logger.Debug("connect to a forwarded port's target", "error", err)
		return nil
	}
	client := &udpClient{address: address, source: answerFrom(control), server: server, used: time.Now()}
	f.mu.Lock()
	f.clients[address], client.place = client, f.silent.PushBack(client)
	f.mu.Unlock()
	_ = server.SetReadDeadline(time.Now().Add(udpIdle))
	answering.Add(1)
	go func() {
		defer answering.Done()
		f.answer(client)
	}()
	return client
}

// takePlace takes a place for one more client. Of too many the one gives way that has
// been silent for longest, if that is long enough.
func (f *udpForwarder) takePlace() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.clients) < udpClients && f.room.TryAcquire(1) {
		return true
	}
	longest := f.silent.Front()
	if longest == nil || time.Since(longest.Value.(*udpClient).used) < leastSilence {
		return false
	}
	return f.forget(longest.Value.(*udpClient))
}

// forget ends an association, and reports whether its place is free by that: it may
// have given way. f.mu is held.
func (f *udpForwarder) forget(client *udpClient) bool {
	if f.clients[client.address] != client {
		return false
	}
	delete(f.clients, client.address)
	f.silent.Remove(client.place)
	client.server.Close()
	return true
}

// use notes that a datagram has come or gone.
func (f *udpForwarder) use(client *udpClient) {
	f.mu.Lock()
	defer f.mu.Unlock()
	client.used = time.Now()
	f.silent.MoveToBack(client.place)
}

// answer sends the container's datagrams to the client until it is idle.
func (f *udpForwarder) answer(client *udpClient) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.forget(client) {
			f.room.Release(1)
		}
	}()
	for {
		err := await(client.server, func(receive func([]byte) (int, error)) error { return f.reply(client, receive) })
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // nobody listens in the container yet
		}
		if err != nil {
			return // idle, or closed
		}
		f.use(client)
		_ = client.server.SetReadDeadline(time.Now().Add(udpIdle))
	}
}

// reply sends a datagram of the container to the client. Where the kernel holds too
// many for others it is lost, as datagrams are.
func (f *udpForwarder) reply(client *udpClient, receive func([]byte) (int, error)) error {
	f.replying.Lock()
	defer f.replying.Unlock()
	buffer := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buffer)
	n, err := receive(buffer[:])
	if err != nil {
		return err
	}
	hasRoom := false
	if err := f.raw.Control(func(fd uintptr) { hasRoom = isWritable(int(fd)) }); err != nil || !hasRoom {
		return err
	}
	if _, _, err := f.socket.WriteMsgUDPAddrPort(buffer[:n], client.source, client.address); errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func isWritable(fd int) bool {
	asked := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(asked, 0)
	return err != nil || n > 0
}

// WriteReply writes a datagram to the far end of a net.Pipe that is forwarded. An
// empty one is written twice: the forwarder's wait for it takes one.
func WriteReply(pipe net.Conn, datagram []byte) error {
	if len(datagram) == 0 {
		if _, err := pipe.Write(nil); err != nil {
			return err
		}
	}
	_, err := pipe.Write(datagram)
	return err
}

// await waits for a datagram without a buffer for it, and calls take to receive it.
func await(conn net.Conn, take func(receive func([]byte) (int, error)) error) error {
	socket, isSocket := conn.(syscall.Conn)
	if !isSocket {
		if _, err := conn.Read(nil); err != nil {
			return err
		}
		return take(conn.Read)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		failure = take(func(buffer []byte) (n int, err error) {
			for n, err = unix.Read(int(fd), buffer); errors.Is(err, unix.EINTR); {
				n, err = unix.Read(int(fd), buffer)
			}
			return n, err
		})
		return !errors.Is(failure, unix.EAGAIN)
	})
	return cmp.Or(err, failure)
}

func (f *udpForwarder) dropClients() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, client := range f.clients {
		client.server.Close()
	}
}

// answerFrom converts a received datagram's control message to the one for its
// replies. nil lets the kernel choose.
func answerFrom(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, message := range messages {
		switch {
		case message.Header.Level == unix.IPPROTO_IP && message.Header.Type == unix.IP_PKTINFO && len(message.Data) >= 12:
			// struct in_pktinfo: interface, local address, destination.
			info := unix.Inet4Pktinfo{Spec_dst: [4]byte(message.Data[4:8])}
			return unix.PktInfo4(&info)
		case message.Header.Level == unix.IPPROTO_IPV6 && message.Header.Type == unix.IPV6_PKTINFO && len(message.Data) >= 20:
			info := unix.Inet6Pktinfo{Addr: [16]byte(message.Data[0:16])}
			return unix.PktInfo6(&info)
		}
	}
	return nil
}
