package names

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func request() *agentv1.NamesRequest {
	return &agentv1.NamesRequest{Networks: []*agentv1.NamedNetwork{{
		Name: "backend", Peers: []*agentv1.NamedPeer{
			{Names: []string{"Web", "www", "0123456789ab"}, Addresses: []string{"172.18.0.2"}},
			{Names: []string{"db", "www"}, Addresses: []string{"172.18.0.3", "fd00::3"}},
			{Names: []string{"broken"}, Addresses: []string{"no address"}},
		},
	}}}
}

// resolve serves on loopback and returns a function that asks by UDP or TCP.
func resolve(t *testing.T, told *agentv1.NamesRequest) (*Resolver, func(network, name string, kind uint16) *dns.Msg) {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	assert.NilError(t, err)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	assert.NilError(t, err)
	resolver := Serve(packets, listener, NewTable(told), Options{Upstreams: MachineUpstreams, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(resolver.Close)
	return resolver, func(network, name string, kind uint16) *dns.Msg {
		t.Helper()
		address := packets.LocalAddr().String()
		if network == "tcp" {
			address = listener.Addr().String()
		}
		client := dns.Client{Net: network, Timeout: 10 * time.Second}
		response, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, kind), address)
		assert.NilError(t, err)
		return response
	}
}

func answersOf(response *dns.Msg) []string {
	answers := []string{}
	for _, record := range response.Answer {
		switch record := record.(type) {
		case *dns.A:
			answers = append(answers, record.A.String())
		case *dns.AAAA:
			answers = append(answers, record.AAAA.String())
		case *dns.PTR:
			answers = append(answers, record.Ptr)
		default:
			answers = append(answers, record.String())
		}
	}
	slices.Sort(answers)
	return answers
}

func TestPeersAreFoundByEachOfTheirNamesAndTheirAddresses(t *testing.T) {
	_, ask := resolve(t, request())
	for _, question := range []struct {
		name string
		kind uint16
		want []string
	}{
		{"web.", dns.TypeA, []string{"172.18.0.2"}},
		{"WEB.", dns.TypeA, []string{"172.18.0.2"}},
		{"web.backend.", dns.TypeA, []string{"172.18.0.2"}},
		{"0123456789ab.", dns.TypeA, []string{"172.18.0.2"}},
		{"www.", dns.TypeA, []string{"172.18.0.2", "172.18.0.3"}},
		{"db.", dns.TypeAAAA, []string{"fd00::3"}},
		{"web.", dns.TypeAAAA, []string{}},
		{"web.", dns.TypeMX, []string{}},
		{"2.0.18.172.in-addr.arpa.", dns.TypePTR, []string{"Web.backend."}},
		{"3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, []string{"db.backend."}},
	} {
		for _, network := range []string{"udp", "tcp"} {
			response := ask(network, question.name, question.kind)
			if got := answersOf(response); response.Rcode != dns.RcodeSuccess || !slices.Equal(got, question.want) {
				t.Errorf("%s %s by %s: %s %v, not %v", question.name, dns.TypeToString[question.kind], network, dns.RcodeToString[response.Rcode], got, question.want)
			}
		}
	}
}

func TestATableReplacesTheOneBefore(t *testing.T) {
	resolver, ask := resolve(t, request())
	resolver.SetTable(NewTable(&agentv1.NamesRequest{Networks: []*agentv1.NamedNetwork{{
		Name: "other", Peers: []*agentv1.NamedPeer{{Names: []string{"late"}, Addresses: []string{"172.19.0.2"}}},
	}}}))
	if got := answersOf(ask("udp", "late.", dns.TypeA)); !slices.Equal(got, []string{"172.19.0.2"}) {
		t.Errorf("late has the addresses %v", got)
	}
	if response := ask("udp", "web.", dns.TypeA); response.Rcode != dns.RcodeServerFailure {
		t.Errorf("web, which is gone, is answered with %s", dns.RcodeToString[response.Rcode])
	}
}

// listenByBoth takes one port of the loopback for UDP and for TCP. A port that is
// free for one may be somebody else's for the other.
func listenByBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		assert.NilError(t, err)
		listener, err := net.Listen("tcp4", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		packets.Close()
		assert.ErrorIs(t, err, unix.EADDRINUSE)
	}
}

// upstream is a server that records its questions.
func upstream(t *testing.T, answer func(query *dns.Msg) *dns.Msg) (port string, asked chan string) {
	t.Helper()
	packets, listener := listenByBoth(t)
	_, port, _ = net.SplitHostPort(packets.LocalAddr().String())
	asked = make(chan string, 16)
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: listener}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
			asked <- w.LocalAddr().Network() + " " + query.Question[0].Name
			_ = w.WriteMsg(answer(query))
		})
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return port, asked
}

func manyAddresses(count int) func(*dns.Msg) *dns.Msg {
	return func(query *dns.Msg) *dns.Msg {
		response := new(dns.Msg).SetReply(query)
		for i := range count {
			record, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", query.Question[0].Name, i))
			response.Answer = append(response.Answer, record)
		}
		return response
	}
}

func (r *Resolver) useConfiguration(t *testing.T, content string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	assert.NilError(t, os.WriteFile(file, []byte(content), 0o600))
	r.forward.upstreams = func() ([]string, error) { return upstreamsOf(file) }
}

func TestOtherNamesAreAskedOfTheUpstreamServersByTheSameProtocol(t *testing.T) {
	port, asked := upstream(t, manyAddresses(1))
	resolver, ask := resolve(t, &agentv1.NamesRequest{})
	table := NewTable(&agentv1.NamesRequest{Forward: true})
	table.upstreams = []string{"127.0.0.1:" + port}
	resolver.SetTable(table)
	for _, network := range []string{"udp", "tcp"} {
		if got := answersOf(ask(network, "example.org.", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.0"}) {
			t.Errorf("by %s: %v", network, got)
		}
		if got := <-asked; got != network+" example.org." {
			t.Errorf("upstream was asked %s", got)
		}
	}
}

func TestAServerThatCannotAnswerIsPassedOver(t *testing.T) {
	broken, _ := upstream(t, func(query *dns.Msg) *dns.Msg {
		return new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	})
	working, _ := upstream(t, manyAddresses(1))
	resolver, ask := resolve(t, &agentv1.NamesRequest{})
	table := NewTable(&agentv1.NamesRequest{Forward: true})
	table.upstreams = []string{"127.0.0.1:" + broken, "127.0.0.1:" + working}
	resolver.SetTable(table)
	if got := answersOf(ask("udp", "example.org.", dns.TypeA)); !slices.Equal(got, []string{"192.0.2.0"}) {
		t.Errorf("answered %v", got)
	}
}

func TestNobodyIsAskedFromInternalNetworks(t *testing.T) {
	port, asked := upstream(t, manyAddresses(1))
	resolver, ask := resolve(t, &agentv1.NamesRequest{})
	table := NewTable(request())
	table.upstreams = []string{"127.0.0.1:" + port}
	resolver.SetTable(table)
	if response := ask("udp", "secret.example.org.", dns.TypeA); response.Rcode != dns.RcodeServerFailure {
		t.Errorf("answered %s", dns.RcodeToString[response.Rcode])
	}
	if len(asked) > 0 {
		t.Errorf("upstream was asked %s", <-asked)
	}
}

func TestALongAnswerIsCutToWhatTheAskerTakesByUDP(t *testing.T) {
	told := &agentv1.NamesRequest{Networks: []*agentv1.NamedNetwork{{Name: "wide"}}}
	for i := range 100 {
		told.Networks[0].Peers = append(told.Networks[0].Peers, &agentv1.NamedPeer{
			Names: []string{"many"}, Addresses: []string{fmt.Sprintf("172.18.1.%d", i)},
		})
	}
	_, ask := resolve(t, told)
	if response := ask("udp", "many.", dns.TypeA); !response.Truncated {
		t.Error("the answer by UDP does not say that it is cut")
	}
	if got := len(ask("tcp", "many.", dns.TypeA).Answer); got != 100 {
		t.Errorf("by TCP %d of 100 addresses", got)
	}
}

func TestTheMachinesServersAreReadFromItsConfiguration(t *testing.T) {
	resolver, _ := resolve(t, &agentv1.NamesRequest{})
	resolver.useConfiguration(t, "# none\nnameserver 192.0.2.1\nsearch example.org\nnameserver 2001:db8::1\n")
	servers, err := resolver.forward.upstreams()
	if want := []string{"192.0.2.1:53", "[2001:db8::1]:53"}; err != nil || !slices.Equal(servers, want) {
		t.Errorf("servers %v, error %v", servers, err)
	}
}
