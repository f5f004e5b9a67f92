package ports

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

func bind(t *testing.T, ports ...shimspec.PublishedPort) (*Set, error) {
	t.Helper()
	set, err := Bind(ports, DialInNamespace(""), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(set.Close)
	}
	return set, err
}

// taken holds a port of 127.0.0.1.
func taken(t *testing.T) uint32 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	return uint32(listener.Addr().(*net.TCPAddr).Port)
}

func TestRefusalsAreInDockersWords(t *testing.T) {
	port := taken(t)
	number := strconv.Itoa(int(port))
	cases := map[string]struct {
		port    shimspec.PublishedPort
		message string
		is      error
	}{
		"taken": {
			shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, ContainerPort: 80},
			"Bind for 127.0.0.1:" + number + " failed: port is already allocated", ErrAllocated,
		},
		"a range that is taken": {
			shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, HostPortEnd: port, ContainerPort: 80},
			"Bind for 127.0.0.1:" + number + " failed: port is already allocated", ErrAllocated,
		},
		"an address of others": {
			shimspec.PublishedPort{Protocol: "udp", HostIP: "192.0.2.1", HostPort: 8080, ContainerPort: 53, ContainerIP: "172.17.0.2"},
			"failed to bind host port for 192.0.2.1:8080:172.17.0.2:53/udp: cannot assign requested address", nil,
		},
		"no address": {
			shimspec.PublishedPort{Protocol: "tcp", HostIP: "localhost", HostPort: 8080, ContainerPort: 80},
			`invalid host address "localhost": ParseAddr("localhost"): unable to parse IP`, nil,
		},
		"a protocol that is not there": {
			shimspec.PublishedPort{Protocol: "sctp", HostIP: "127.0.0.1", ContainerPort: 80},
			"failed to bind host port for 127.0.0.1:0::80/sctp: publishing a sctp port is not supported", nil,
		},
		"out of range": {
			shimspec.PublishedPort{Protocol: "tcp", HostPort: 65536, ContainerPort: 80},
			"published port 65536-65536:80 is out of range", nil,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := bind(t, test.port)
			if err == nil || err.Error() != test.message || test.is != nil && !errors.Is(err, test.is) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestARefusalLeavesNothingBound(t *testing.T) {
	free, err := bind(t, shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", ContainerPort: 80})
	assert.NilError(t, err)
	port := free.Bound()[0].HostPort
	free.Close()
	first := shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, ContainerPort: 80}
	second := shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: taken(t), ContainerPort: 81}
	_, err = bind(t, first, second)
	assert.ErrorIs(t, err, ErrAllocated)
	_, err = bind(t, first)
	assert.NilError(t, err, "the first port stayed bound")
}

func TestTheSamePortServesBothProtocolsAndFamilies(t *testing.T) {
	set, err := bind(t, shimspec.PublishedPort{Protocol: "tcp", ContainerPort: 80})
	assert.NilError(t, err)
	bound := set.Bound()
	if len(bound) != 2 || bound[0].HostIP != "0.0.0.0" || bound[1].HostIP != "::" || bound[0].HostPort != bound[1].HostPort {
		t.Fatalf("bound %v", bound)
	}
	_, err = bind(t, shimspec.PublishedPort{Protocol: "udp", HostPort: bound[0].HostPort, ContainerPort: 80})
	assert.NilError(t, err)
}

// connected publishes a port and returns both ends of a connection to it.
func connected(t *testing.T) (set *Set, client, inside net.Conn) {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { server.Close() })
	set, err = Bind([]shimspec.PublishedPort{{Protocol: "tcp", HostIP: "127.0.0.1", ContainerPort: uint32(server.Addr().(*net.TCPAddr).Port)}},
		func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}, slog.New(slog.DiscardHandler))
	assert.NilError(t, err)
	t.Cleanup(set.Close)
	set.Serve()
	client, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(set.Bound()[0].HostPort))))
	assert.NilError(t, err)
	t.Cleanup(func() { client.Close() })
	inside, err = server.Accept()
	assert.NilError(t, err)
	t.Cleanup(func() { inside.Close() })
	return set, client, inside
}

func TestAConnectionWithNobodyBehindItEndsInOrder(t *testing.T) {
	set, err := Bind([]shimspec.PublishedPort{{Protocol: "tcp", HostIP: "127.0.0.1", ContainerPort: 80}},
		func(context.Context, string, string) (net.Conn, error) {
			return nil, syscall.ECONNREFUSED
		}, slog.New(slog.DiscardHandler))
	assert.NilError(t, err)
	t.Cleanup(set.Close)
	set.Serve()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(set.Bound()[0].HostPort)))
	for _, said := range []int{0, 1, 300_000} {
		for range 20 {
			client, err := net.Dial("tcp", address)
			assert.NilError(t, err)
			assert.NilError(t, client.SetDeadline(time.Now().Add(2*time.Minute)))
			_, err = client.Write(make([]byte, said))
			assert.NilError(t, err, "write of %d bytes", said)
			if heard, err := io.ReadAll(client); err != nil || len(heard) > 0 {
				t.Fatalf("after %d bytes: heard %q, %v", said, heard, err)
			}
			client.Close()
		}
	}
}

func TestTheLastWordsOfAProcessArrive(t *testing.T) {
	for range 20 {
		set, client, inside := connected(t)
		said := bytes.Repeat([]byte("last words"), 10_000)
		_, err := inside.Write(said)
		assert.NilError(t, err)
		inside.Close() // as the kernel does when the process ends
		set.Close()
		assert.NilError(t, client.SetDeadline(time.Now().Add(2*time.Minute)))
		if heard, err := io.ReadAll(client); err != nil || !bytes.Equal(heard, said) {
			t.Fatalf("%d bytes of %d arrived: %v", len(heard), len(said), err)
		}
	}
}

func TestAFreedPortIsFreeWhileItsConnectionsGoOn(t *testing.T) {
	set, client, inside := connected(t)
	set.Free()
	_, err := bind(t, shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: set.Bound()[0].HostPort, ContainerPort: 80})
	assert.NilError(t, err)
	_, err = inside.Write([]byte("on"))
	assert.NilError(t, err)
	_, err = io.ReadFull(client, make([]byte, 2))
	assert.NilError(t, err)
}

func TestCloseEndsConnections(t *testing.T) {
	set, client, inside := connected(t)
	set.Close()
	for _, conn := range []net.Conn{client, inside} {
		assert.NilError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection stays open")
		}
	}
}
