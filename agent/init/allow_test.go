package containerinit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/init/mirror"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestAPartnerDoesNotReachTheAgentInAnotherNotation(t *testing.T) {
	t.Parallel()
	p := &partnership{Mirror: mirror.New(mirror.Options{}), port: 9111, peers: &peerage{}}
	t.Cleanup(p.Close)
	for address, want := range map[string]error{
		"127.0.0.1:80":            nil,
		"[::ffff:127.0.0.1]:80":   nil,
		"[::1%lo]:80":             nil,
		"127.0.0.1:9111":          unix.ECONNREFUSED,
		"[::ffff:127.0.0.1]:9111": unix.ECONNREFUSED,
		"[::1%lo]:9111":           unix.ECONNREFUSED,
		"127.0.0.11:53":           unix.ECONNREFUSED,
		"[::ffff:127.0.0.11]:53":  unix.ECONNREFUSED,
	} {
		if err := p.allow("tcp", netip.MustParseAddrPort(address)); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", address, err, want)
		}
	}
	if err := p.allow("tcp", netip.MustParseAddrPort("[::ffff:169.254.170.2]:80")); err == nil {
		t.Error("a partner reaches another address in another notation")
	}
}

func TestATableOfManyListenersIsOneThatPartnersRead(t *testing.T) {
	t.Parallel()
	many := make([]netip.AddrPort, 20_000)
	for i := range many {
		many[i] = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	}
	told := &agentv1.ListenersResponse{Message: &agentv1.ListenersResponse_Table{Table: tableOf(mirror.Listeners{TCP: many, UDP: many})}}
	if size := proto.Size(told); size > mirror.MaxAnswer {
		t.Errorf("a message of %d bytes", size)
	}
}

// tellingLink is the way to a partner with one listener.
type tellingLink struct {
	at    netip.AddrPort
	taken chan struct{}
}

func (l *tellingLink) Follow(ctx context.Context, told func(mirror.Listeners)) error {
	told(mirror.Listeners{TCP: []netip.AddrPort{l.at}})
	close(l.taken)
	<-ctx.Done()
	return ctx.Err()
}

func (*tellingLink) Exchange(context.Context, netip.AddrPort) net.Conn { return nil }

func (*tellingLink) Carry(_ context.Context, conn *net.TCPConn, _ netip.AddrPort) { conn.Close() }

func (*tellingLink) Close() {}

// A connection mirrored by one partner's agent would loop through another's.
func TestAPartnerDoesNotReachMirrors(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.79.0.1:0")
	assert.NilError(t, err)
	link := &tellingLink{at: free.Addr().(*net.TCPAddr).AddrPort(), taken: make(chan struct{})}
	free.Close()
	p := &partnership{port: 9111, peers: &peerage{}, Mirror: mirror.New(mirror.Options{
		Listening: mirror.Listening,
		IsOwn:     func(netip.AddrPort) bool { return false },
		Address:   func() netip.Addr { return netip.Addr{} },
		Dial:      func(mirror.Partner, func() [][]byte) mirror.Link { return link },
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})}
	t.Cleanup(p.Close)
	assert.Check(t, p.allow("tcp", link.at), "before")
	p.SetPartners(t.Context(), []mirror.Partner{{ContainerID: "x"}}, 0)
	<-link.taken
	assert.Check(t, is.ErrorIs(p.allow("tcp", link.at), unix.ECONNREFUSED), "a partner reaches a mirror")
}
