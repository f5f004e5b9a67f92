package ports

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/semaphore"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/netns"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// small publishes two ports of a protocol, both to one server, in a room of the
// least size.
func small(t *testing.T, protocol string, port int) *Set {
	t.Helper()
	published := shimspec.PublishedPort{Protocol: protocol, HostIP: "127.0.0.1", ContainerPort: uint32(port)}
	set, err := bindIn(roomBeside(0), []shimspec.PublishedPort{published, published}, DialInNamespace(""), slog.New(slog.DiscardHandler))
	assert.NilError(t, err)
	t.Cleanup(set.Close)
	set.Serve()
	return set
}

func dial(t *testing.T, set *Set, i int) net.Conn {
	t.Helper()
	bound := set.Bound()[i%2]
	client, err := net.Dial(bound.Protocol, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(bound.HostPort))))
	assert.NilError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// setLeastSilence is called before ports are bound, which see it until they are closed.
func setLeastSilence(t *testing.T, silence time.Duration) {
	before := leastSilence
	t.Cleanup(func() { leastSilence = before })
	leastSilence = silence
}

func TestConnectionsBeyondTheRoomWaitForOthersToEnd(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer server.Close()
	inside := make(chan net.Conn, 4*leastConnections)
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			inside <- conn
		}
	}()
	set := small(t, "tcp", server.Addr().(*net.TCPAddr).Port)
	var clients []net.Conn
	for i := range 3 * leastConnections {
		clients = append(clients, dial(t, set, i))
	}
	var held []net.Conn
	for range leastConnections {
		held = append(held, <-inside)
	}
	select {
	case <-inside:
		t.Fatal("more connections are forwarded than there is room for")
	case <-time.After(200 * time.Millisecond):
	}
	for _, conn := range append(clients, held...) {
		conn.Close()
	}
	last := dial(t, set, 0)
	_, err = io.WriteString(last, "last")
	assert.NilError(t, err)
	for deadline := time.After(time.Minute); ; {
		select {
		case conn := <-inside:
			conn.SetDeadline(time.Now().Add(time.Minute))
			heard := make([]byte, 4)
			n, _ := io.ReadFull(conn, heard)
			conn.Close()
			if string(heard[:n]) == "last" {
				return
			}
		case <-deadline:
			t.Fatal("a connection does not come in after the others have ended")
		}
	}
}

func TestPortsWithoutRoomAreClosedAtOnce(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer server.Close()
	set := small(t, "tcp", server.Addr().(*net.TCPAddr).Port)
	for i := range 3 * leastConnections {
		dial(t, set, i)
	}
	closed := make(chan struct{})
	go func() {
		set.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("the ports are not closed")
	}
}

func TestOfTooManyUDPClientsTheOneGivesWayThatHasBeenSilentForLongest(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer server.Close()
	assert.NilError(t, server.SetReadDeadline(time.Now().Add(time.Minute)))
	setLeastSilence(t, 0)
	set := small(t, "udp", server.LocalAddr().(*net.UDPAddr).Port)
	// ask sends a datagram, and returns where it comes from inside.
	ask := func(client net.Conn) string {
		_, err := io.WriteString(client, "x")
		assert.NilError(t, err)
		_, from, err := server.ReadFrom(make([]byte, 1))
		assert.NilError(t, err, "a client has no place")
		return from.String()
	}
	busy, first := dial(t, set, 0), ""
	for i := range 3 * leastClients {
		from := ask(busy)
		if first = cmp.Or(first, from); from != first {
			t.Fatalf("one that goes on gave way to client %d", i)
		}
		ask(dial(t, set, i))
		clients := 0
		for _, f := range set.forwarders {
			f := f.(*udpForwarder)
			f.mu.Lock()
			clients += len(f.clients)
			f.mu.Unlock()
		}
		assert.Assert(t, clients <= leastClients, "%d clients where there is room for %d", clients, leastClients)
	}
}

func TestClientsOfUDPPortsThatGoOnGiveWayToNone(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer server.Close()
	setLeastSilence(t, time.Hour)
	set := small(t, "udp", server.LocalAddr().(*net.UDPAddr).Port)
	heard := map[string]bool{}
	for i := range 3 * leastClients {
		client := dial(t, set, i)
		_, err := io.WriteString(client, "x")
		assert.NilError(t, err)
		server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, from, err := server.ReadFrom(make([]byte, 1)); err == nil {
			heard[from.String()] = true
		}
	}
	if len(heard) == 0 || len(heard) > leastClients {
		t.Fatalf("%d clients are forwarded where there is room for %d", len(heard), leastClients)
	}
}

func TestClientsOfAUDPPortShareABuffer(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	assert.NilError(t, err)
	defer server.Close()
	go func() {
		for buffer := make([]byte, 60_000); ; {
			_, from, err := server.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteToUDPAddrPort(buffer, from)
		}
	}()
	said := make([]byte, 60_000)
	for name, dialServer := range map[string]func(context.Context) (net.Conn, error){
		"socket": func(context.Context) (net.Conn, error) { return net.Dial("udp4", server.LocalAddr().String()) },
		"pipe":   func(context.Context) (net.Conn, error) { return newEcho(said), nil },
	} {
		t.Run(name, func(t *testing.T) {
			socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			assert.NilError(t, err)
			ended := make(chan error)
			go func() {
				ended <- ForwardDatagrams(context.Background(), socket, dialServer, slog.New(slog.DiscardHandler))
			}()
			const clients = 200
			before := heap()
			answer := make([]byte, maxDatagram)
			for range clients {
				client, err := net.Dial("udp4", socket.LocalAddr().String())
				assert.NilError(t, err)
				_ = client.SetDeadline(time.Now().Add(10 * time.Second))
				for range 2 {
					_, err := io.WriteString(client, "x")
					assert.NilError(t, err)
					if n, err := client.Read(answer); n != 60_000 {
						t.Fatal(n, err)
					}
				}
				client.Close()
			}
			if grown := heap() - before; grown > clients*maxDatagram/4 {
				t.Errorf("%d clients hold %d bytes", clients, grown)
			}
			socket.Close()
			assert.Check(t, <-ended)
		})
	}
}

func TestAnEmptyReplyHoldsUpNoOtherClient(t *testing.T) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	assert.NilError(t, err)
	defer socket.Close()
	dialServer := func(context.Context) (net.Conn, error) { return newEcho(nil), nil }
	go func() {
		_ = ForwardDatagrams(context.Background(), socket, dialServer, slog.New(slog.DiscardHandler))
	}()
	for range 2 {
		client, err := net.Dial("udp4", socket.LocalAddr().String())
		assert.NilError(t, err)
		defer client.Close()
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.WriteString(client, "x")
		assert.NilError(t, err)
		if n, err := client.Read(make([]byte, 10)); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
}

// wire makes a network, with nobody but this machine in it, in the thread's namespace.
func wire() error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "near"
	far := netlink.NewLinkAttrs()
	far.Name = "far"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: far.Name}); err != nil {
		return err
	}
	address, err := netlink.ParseAddr("10.77.0.1/16")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(&netlink.Veth{LinkAttrs: attributes}, address); err != nil {
		return err
	}
	for _, name := range []string{"lo", attributes.Name, far.Name} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	return nil
}

func TestRepliesToAClientThatIsGoneHoldUpNoOtherClient(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var socket *net.UDPConn
	var client net.Conn
	assert.NilError(t, netns.Inside(netns.New, func() (err error) {
		if err = wire(); err != nil {
			return err
		}
		if socket, err = net.ListenUDP("udp4", &net.UDPAddr{}); err != nil {
			return err
		}
		client, err = net.Dial("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(socket.LocalAddr().(*net.UDPAddr).Port)))
		return err
	}))
	defer client.Close()
	said := make([]byte, 100)
	near, far := net.Pipe()
	servers := make(chan net.Conn, 2)
	servers <- near
	servers <- newEcho(said)
	dialServer := func(context.Context) (net.Conn, error) { return <-servers, nil }
	f, err := newUDPForwarder(socket, dialServer, false, semaphore.NewWeighted(udpClients), slog.New(slog.DiscardHandler))
	assert.NilError(t, err)
	var forwarding sync.WaitGroup
	forwarding.Add(1)
	go func() {
		defer forwarding.Done()
		f.serve(context.Background())
	}()
	defer forwarding.Wait()
	defer socket.Close()

	f.client(context.Background(), netip.MustParseAddrPort("10.77.0.2:4000"), nil, &forwarding)
	go func() {
		for WriteReply(far, said) == nil { // until its client is forgotten
		}
	}()
	time.Sleep(200 * time.Millisecond) // some thousand replies
	_ = client.SetDeadline(time.Now().Add(2 * time.Second))
	_, err = io.WriteString(client, "x")
	assert.NilError(t, err)
	n, err := client.Read(make([]byte, 200))
	assert.Check(t, n == len(said) && err == nil, "%d bytes, %v", n, err)
}

// echo is a pipe whose other end answers each datagram.
type echo struct {
	net.Conn
	asked chan struct{}
	leave func()
}

func newEcho(answer []byte) *echo {
	near, far := net.Pipe()
	asked := make(chan struct{}, 16)
	go func() {
		for range asked {
			_ = WriteReply(far, answer)
		}
	}()
	return &echo{near, asked, sync.OnceFunc(func() { close(asked) })}
}

func (e *echo) Write(datagram []byte) (int, error) {
	e.asked <- struct{}{}
	return len(datagram), nil
}

func (e *echo) Close() error {
	e.leave()
	return e.Conn.Close()
}

// heap is how many bytes are in use, without what pools keep through a collection.
func heap() int {
	runtime.GC()
	runtime.GC()
	var all runtime.MemStats
	runtime.ReadMemStats(&all)
	return int(all.HeapAlloc)
}
