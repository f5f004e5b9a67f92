package mirror

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// served is a container whose agent answers a partner.
type served struct {
	server.Unimplemented
	table       *agentv1.ListenerTable
	connections atomic.Int32 // open ones
	expired     bool         // is what the partner shows
	hasty       bool         // tells its table without end
	brief       bool         // ends once it has told it
}

// count follows the connections; none is ever hijacked.
func (s *served) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
	case http.StateClosed:
		s.connections.Add(-1)
	}
}

func (s *served) Partners(context.Context, *agentv1.PartnersRequest) (*agentv1.PartnersResponse, error) {
	return nil, errors.New("not asked here")
}

func (s *served) Listeners(ctx context.Context, tell func(*agentv1.ListenerTable) error) error {
	for first := true; first || s.hasty; first = false {
		if err := tell(s.table); err != nil {
			return err
		}
	}
	if s.brief {
		return errors.New("told once")
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *served) DialPort(ctx context.Context, network string, address netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address.String())
}

func selfSigned(t *testing.T, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	assert.NilError(t, err)
	leaf, err := x509.ParseCertificate(der)
	assert.NilError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// linkTo serves a container and returns a link to it.
func linkTo(t *testing.T, container *served, change func(*Partner)) Link {
	t.Helper()
	end := time.Now().Add(time.Hour)
	if container.expired {
		end = time.Now().Add(-time.Hour)
	}
	agent, own := selfSigned(t, time.Now().Add(time.Hour)), selfSigned(t, end)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{agent}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert})
	assert.NilError(t, err)
	handler := server.NewHandler(func(context.Context, string) (server.Container, error) { return container, nil })
	web := server.NewServer(handler, slog.New(slog.NewTextHandler(io.Discard, nil)))
	web.ConnState = container.count
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })
	pin := sha256.Sum256(agent.Leaf.RawSubjectPublicKeyInfo)
	partner := Partner{ContainerID: "x", Agent: listener.Addr().(*net.TCPAddr).AddrPort(), Pin: pin[:]}
	if change != nil {
		change(&partner)
	}
	link := NewLink(partner, own.PrivateKey, func() [][]byte { return own.Certificate })
	t.Cleanup(link.Close)
	return link
}

func TestALinkReportsThePartnersListeners(t *testing.T) {
	t.Parallel()
	told := make(chan []netip.AddrPort, 1)
	follow := func(link Link) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return link.Follow(ctx, func(listeners Listeners) {
			told <- listeners.TCP
			cancel()
		})
	}
	good := &agentv1.ListenerTable{Listeners: []*agentv1.Listener{{Address: "0.0.0.0", Port: 80}}}
	assert.Check(t, is.ErrorIs(follow(linkTo(t, &served{table: good}, nil)), context.Canceled))
	if listeners := <-told; len(listeners) != 1 || listeners[0].String() != "0.0.0.0:80" {
		t.Errorf("told %v", listeners)
	}
	bad := &agentv1.ListenerTable{Listeners: []*agentv1.Listener{{Address: "0.0.0.0", Port: 65536}}}
	assert.Check(t, is.ErrorContains(follow(linkTo(t, &served{table: bad}, nil)), "65536"), "a port that cannot be")
	nowhere := freePort(t, "127.77.0.5")
	err := follow(linkTo(t, &served{table: good}, func(p *Partner) { p.Agent = nowhere }))
	if err == nil || err.Error() != "its agent is not reached at "+nowhere.String()+": connect: connection refused" {
		t.Errorf("nobody there: %v", err)
	}
	err = follow(linkTo(t, &served{table: good}, func(p *Partner) { p.Pin = make([]byte, 32) }))
	assert.Check(t, is.ErrorContains(err, "another agent answers there"), "another agent")
}

// listening is a table of so many listeners.
func listening(count int) *agentv1.ListenerTable {
	table := &agentv1.ListenerTable{}
	for range count {
		table.Listeners = append(table.Listeners, &agentv1.Listener{Address: "2001:db8:1111:2222:3333:4444:5555:6666", Port: 65535})
	}
	return table
}

func TestAPartnerIsHeardNoMoreOftenThanListenersAreRead(t *testing.T) {
	t.Parallel()
	for count, every := range map[int]time.Duration{0: readEvery, 4 * maxListeners: 5 * readEvery} {
		link := linkTo(t, &served{table: listening(count), hasty: true}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 8*readEvery)
		defer cancel()
		told, begun := 0, time.Now()
		_ = link.Follow(ctx, func(Listeners) { told++ })
		if most := 1 + int(time.Since(begun)/every); told > most {
			t.Errorf("told %d times of %d listeners, not %d at most", told, count, most)
		}
	}
}

func TestALongTableOfAPartnerIsNotRead(t *testing.T) {
	t.Parallel()
	link := linkTo(t, &served{table: listening(8 * maxListeners), brief: true}, nil)
	_ = link.Follow(t.Context(), func(listeners Listeners) { t.Errorf("%d listeners are told", len(listeners.TCP)) })
}

// An agent may fill whatever its partner's offers it, once for each connection.
func TestALinkOffersAPartnersAgentLittleOfItsMemory(t *testing.T) {
	t.Parallel()
	agent, own := selfSigned(t, time.Now().Add(time.Hour)), selfSigned(t, time.Now().Add(time.Hour))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{agent}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert})
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	pin := sha256.Sum256(agent.Leaf.RawSubjectPublicKeyInfo)
	partner := Partner{ContainerID: "x", Agent: listener.Addr().(*net.TCPAddr).AddrPort(), Pin: pin[:]}
	link := NewLink(partner, own.PrivateKey, func() [][]byte { return own.Certificate })
	t.Cleanup(link.Close)
	carriedTo(t, link, freePort(t, "127.77.0.6"))
	conn, err := listener.Accept()
	assert.NilError(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// The preface of HTTP/2, its SETTINGS frame, and what the connection has besides.
	begin := make([]byte, 24+9)
	_, err = io.ReadFull(conn, begin)
	assert.NilError(t, err)
	settings := make([]byte, int(begin[24])<<16|int(begin[25])<<8|int(begin[26]))
	update := make([]byte, 9+4)
	_, err = io.ReadFull(conn, settings)
	assert.NilError(t, err)
	if _, err := io.ReadFull(conn, update); err != nil || update[3] != 8 {
		t.Fatal(update, err)
	}
	offered := map[string]uint32{"connection": 64<<10 + binary.BigEndian.Uint32(update[9:])}
	for ; len(settings) > 0; settings = settings[6:] {
		offered[fmt.Sprint(binary.BigEndian.Uint16(settings))] = binary.BigEndian.Uint32(settings[2:])
	}
	for name, most := range map[string]uint32{
		"connection": 1<<20 + 64<<10, // INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE and MAX_HEADER_LIST_SIZE:
		"4":          512 << 10, "5": 128 << 10, "6": 65 << 10,
	} {
		if got := offered[name]; got == 0 || got > most {
			t.Errorf("%s: %d, not %d at most", name, got, most)
		}
	}
}

func TestAConnectionIsCarriedWithItsHalfCloses(t *testing.T) {
	t.Parallel()
	link := linkTo(t, &served{}, nil)
	process, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { process.Close() })
	go func() { // answers what came once no more comes
		for {
			conn, err := process.Accept()
			if err != nil {
				return
			}
			content, _ := io.ReadAll(conn)
			_, _ = conn.Write(content)
			conn.Close()
		}
	}()
	client := carriedTo(t, link, process.Addr().(*net.TCPAddr).AddrPort())
	sent := strings.Repeat("0123456789abcdef", 200_000)
	go func() {
		_, _ = io.WriteString(client, sent)
		_ = client.CloseWrite()
	}()
	received, err := io.ReadAll(client)
	if err != nil || string(received) != sent {
		t.Errorf("%d of %d bytes came back (%v)", len(received), len(sent), err)
	}
}

func TestAConnectionThatThePartnerDoesNotTakeIsReset(t *testing.T) {
	t.Parallel()
	client := carriedTo(t, linkTo(t, &served{}, nil), freePort(t, "127.77.0.4"))
	_, err := client.Read(make([]byte, 1))
	assert.Check(t, is.ErrorIs(err, unix.ECONNRESET), "what the client saw")
}

// following follows the partner of a link until the test ends.
func following(t *testing.T, link Link) {
	t.Helper()
	told := make(chan struct{})
	go func() {
		_ = link.Follow(t.Context(), func(Listeners) { close(told) })
	}()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("the partner told nothing")
	}
}

// process listens in the partner and serves each connection.
func process(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func TestConnectionsThatStallHoldUpNoOther(t *testing.T) {
	t.Parallel()
	// Each direction: endless output to a client, or a process, that does not
	// read.
	const pieces = 64
	floods := process(t, func(conn net.Conn) {
		piece := make([]byte, 1<<20)
		for range pieces {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	deaf := process(t, func(net.Conn) { <-over })
	echoes := process(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	container := &served{table: &agentv1.ListenerTable{}}
	link := linkTo(t, container, nil)
	following(t, link)
	for range 3 {
		carriedTo(t, link, floods)
		writer := carriedTo(t, link, deaf)
		_ = writer.SetWriteDeadline(time.Now().Add(time.Second)) // no more is taken long before
		_, _ = writer.Write(make([]byte, pieces<<20))
	}
	client := carriedTo(t, link, echoes)
	sent := strings.Repeat("0123456789abcdef", 1<<20)
	go func() { _, _ = io.WriteString(client, sent) }()
	received := make([]byte, len(sent))
	if n, err := io.ReadFull(client, received); err != nil || string(received) != sent {
		t.Errorf("%d of %d bytes came back beside connections that stall (%v)", n, len(sent), err)
	}
}

func TestAnAgentThatEndsNoConnectionHasSoManyOfThem(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	stays := process(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte("x"))
		<-over
	})
	container := &served{}
	link := linkTo(t, container, nil)
	reads := func(client net.Conn, within time.Duration) error {
		_ = client.SetReadDeadline(time.Now().Add(within))
		_, err := io.ReadFull(client, make([]byte, 1))
		return err
	}
	for range maxCarried {
		client := carriedTo(t, link, stays)
		assert.NilError(t, reads(client, patience))
		client.Close()
	}
	var waiting []net.Conn
	for range 3 {
		waiting = append(waiting, carriedTo(t, link, stays))
	}
	for _, client := range waiting {
		assert.Check(t, is.ErrorIs(reads(client, 100*time.Millisecond), os.ErrDeadlineExceeded), "one more than an agent may have does not wait")
	}
	if n := container.connections.Load(); n != maxCarried {
		t.Errorf("%d connections to the agent", n)
	}
	close(over)
	for _, client := range waiting {
		assert.Check(t, reads(client, patience), "a connection does not get the place of one that ended")
	}
}

func TestACarriedConnectionHasOneToTheAgentOfItsOwn(t *testing.T) {
	t.Parallel()
	echoes := process(t, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	for name, c := range map[string]struct {
		expired bool
		want    int32 // connections while two are carried
	}{
		"credentials that are good":   {false, 3},
		"credentials that have ended": {true, 1},
	} {
		container := &served{table: &agentv1.ListenerTable{}, expired: c.expired}
		link := linkTo(t, container, nil)
		following(t, link)
		var clients []*net.TCPConn
		for range 2 {
			client := carriedTo(t, link, echoes)
			_, err := client.Write([]byte("x"))
			assert.NilError(t, err)
			_, err = io.ReadFull(client, make([]byte, 1))
			assert.NilError(t, err, name)
			clients = append(clients, client)
		}
		if n := container.connections.Load(); n != c.want {
			t.Errorf("%s: %d connections to the agent, not %d", name, n, c.want)
		}
		for _, client := range clients {
			_ = client.CloseWrite()
			_, _ = io.ReadAll(client)
		}
		until(t, "the connections end with what they carried", func() bool { return container.connections.Load() == 1 })
	}
}

// carriedTo is a client whose connection goes through a link.
func carriedTo(t *testing.T, link Link, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(patience))
	conn, err := listener.Accept()
	assert.NilError(t, err)
	go link.Carry(t.Context(), conn.(*net.TCPConn), to)
	return client.(*net.TCPConn)
}
