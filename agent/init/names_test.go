package containerinit_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	containerinit "github.com/sockerless/sockerless/agent/init"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// answering runs a DNS server in the container's network, as the platform's own;
// it answers everything with one address.
func (k *task) answering(server, address string) {
	k.t.Helper()
	var packets net.PacketConn
	listened := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", k.pid()))
		if err == nil {
			defer namespace.Close()
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			packets, err = net.ListenPacket("udp", server+":53")
		}
		listened <- err
	}()
	must(k.t, <-listened)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		response := new(dns.Msg).SetReply(query)
		record, _ := dns.NewRR(query.Question[0].Name + " 60 IN A " + address)
		response.Answer = append(response.Answer, record)
		_ = w.WriteMsg(response)
	})
	serving := &dns.Server{PacketConn: packets, Handler: handler}
	go serving.ActivateAndServe()
	k.t.Cleanup(func() { packets.Close() })
}

func tell(t *testing.T, client agentv1connect.AgentServiceClient, name, address string) error {
	t.Helper()
	_, err := client.Names(patience(t), connect.NewRequest(&agentv1.NamesRequest{Forward: true, Networks: []*agentv1.NamedNetwork{
		{Name: "net", Peers: []*agentv1.NamedPeer{{Names: []string{name}, Addresses: []string{address}}}}}}))
	return err
}

func TestNamesAndHostsAreTheContainersInPlace(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{network: true, arguments: forLong})
	client := k.client()
	k.answering("127.0.0.53", "192.0.2.53")
	must(t, tell(t, client, "peer", "10.9.8.7"))
	main := nobody("probe", "forever")
	start(t, client, &agentv1.StartRequest{Process: main, Hostname: "own", ExtraHosts: []*agentv1.HostsEntry{{Address: "192.0.2.7", Names: []string{"extra", "more"}}}})
	execs := 0
	look := func(arguments ...string) string {
		t.Helper()
		execs++
		out, code := run(t, client, fmt.Sprint("look", execs), &agentv1.ProcessSpec{Args: append([]string{"probe"}, arguments...)})
		assert.Check(t, code == 0, "%v: exit code %d", arguments, code)
		return out
	}
	if got := look("read", "/etc/hosts"); got != platformHosts+"\n192.0.2.7\textra more\n<nil>" { // it has loopback only, so no line for itself
		t.Errorf("hosts %q", got)
	}
	if got := look("read", "/etc/resolv.conf"); got != "nameserver 127.0.0.11\nsearch platform.internal\noptions ndots:0\n<nil>" {
		t.Errorf("resolv.conf %q", got)
	}
	for name, want := range map[string]string{"peer": "10.9.8.7", "peer.net": "10.9.8.7", "elsewhere.example": "192.0.2.53", "extra": "192.0.2.7"} {
		if got := look("lookup", name); got != want+"\n" {
			t.Errorf("%s is %q", name, got)
		}
	}
	must(t, tell(t, client, "peer", "10.9.8.8"))
	if got := look("lookup", "peer"); got != "10.9.8.8\n" {
		t.Errorf("after it moved: %q", got)
	}

	// The next start replaces what the last one set.
	_, err := client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(unix.SIGKILL)}))
	must(t, err)
	k.answering("127.0.0.54", "192.0.2.54")
	k.await("the next start", func() bool {
		response, err := client.Start(patience(t), connect.NewRequest(&agentv1.StartRequest{Generation: 2, Process: main,
			Resolver: &agentv1.ResolverSettings{Servers: []string{"127.0.0.54"}, Search: []string{"."}, Options: []string{"ndots:2"}}}))
		return err == nil && response.Msg.GetStarted() != nil
	})
	if got := look("read", "/etc/hosts"); got != platformHosts+"\n<nil>" {
		t.Errorf("hosts %q", got)
	}
	if got := look("read", "/etc/resolv.conf"); got != "nameserver 127.0.0.11\noptions ndots:2\n<nil>" {
		t.Errorf("resolv.conf %q", got)
	}
	if got := look("lookup", "elsewhere.example"); got != "192.0.2.54\n" {
		t.Errorf("by the other server: %q", got)
	}
}

func TestLinkedContainersAreFoundWhereTheyAreNow(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{network: true, arguments: forLong})
	client := k.client()
	linkedAt := func(address string) *agentv1.HostsEntry {
		return &agentv1.HostsEntry{Address: address, Names: []string{"store", "db"}}
	}
	tellOf := func(address string) {
		t.Helper()
		_, err := client.Names(patience(t), connect.NewRequest(&agentv1.NamesRequest{Hosts: []*agentv1.HostsEntry{linkedAt(address)}}))
		must(t, err)
	}
	tellOf("192.0.2.8") // later than what the start says
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "forever"), ExtraHosts: []*agentv1.HostsEntry{linkedAt("192.0.2.7")}})
	execs := 0
	read := func(path string) string {
		t.Helper()
		execs++
		out, _ := run(t, client, fmt.Sprint("read", execs), &agentv1.ProcessSpec{Args: []string{"probe", "read", path}})
		return out
	}
	if got := read("/etc/hosts"); got != platformHosts+"\n192.0.2.8\tstore db\n<nil>" {
		t.Errorf("hosts %q", got)
	}
	tellOf("192.0.2.9")
	if got := read("/etc/hosts"); got != platformHosts+"\n192.0.2.9\tstore db\n<nil>" {
		t.Errorf("hosts after it moved %q", got)
	}
	if got := read("/etc/resolv.conf"); strings.Contains(got, "127.0.0.11") {
		t.Errorf("without names there is a resolver: %q", got)
	}
}

func TestAContainersOwnNameIsThatOfItsAddress(t *testing.T) {
	entry := containerinit.OwnEntry("web.example")
	if entry == nil {
		t.Skip("this machine has no address but loopback")
	}
	if address, err := netip.ParseAddr(entry.Address); err != nil || address.IsLoopback() || !slices.Equal(entry.Names, []string{"web.example", "web"}) {
		t.Errorf("%v", entry)
	}
	if entry := containerinit.OwnEntry(""); entry != nil {
		t.Errorf("without a name: %v", entry)
	}
}

func TestNamesThatCannotBeGivenAreSaidBeforehand(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none}) // its root is read-only, and nothing is mounted there
	client := k.client()
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	for _, limit := range []string{"cannot add host names", "cannot change the resolver's configuration", "cannot answer the names"} {
		if !slices.ContainsFunc(hello.Msg.Limitations, func(said string) bool { return strings.HasPrefix(said, limit) }) {
			t.Errorf("limitations lack %q: %q", limit, hello.Msg.Limitations)
		}
	}
	if err := tell(t, client, "peer", "10.9.8.7"); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("names: %v", err)
	}
	for name, request := range map[string]*agentv1.StartRequest{
		"hosts":    {ExtraHosts: []*agentv1.HostsEntry{{Address: "192.0.2.7", Names: []string{"extra"}}}},
		"resolver": {Resolver: &agentv1.ResolverSettings{Servers: []string{"192.0.2.1"}}},
	} {
		k := startTask(t, taskOptions{arguments: none})
		request.Process = nobody("probe", "forever")
		if failure := start(t, k.client(), request).GetFailure(); !strings.Contains(failure.GetMessage(), "read-only file system") {
			t.Errorf("%s: %v", name, failure)
		}
	}
	for name, request := range map[string]*agentv1.StartRequest{
		"a line more": {Hostname: "a\n192.0.2.1 evil"},
		"no address":  {ExtraHosts: []*agentv1.HostsEntry{{Address: "host", Names: []string{"x"}}}},
		"no name":     {ExtraHosts: []*agentv1.HostsEntry{{Address: "192.0.2.1"}}},
		"no server":   {Resolver: &agentv1.ResolverSettings{Servers: []string{"x"}}},
		"no place":    {VolumeDirectories: []string{"/data", "/data/../bin"}},
	} {
		request.Generation, request.Process = 1, nobody("probe", "forever")
		if _, err := client.Start(patience(t), connect.NewRequest(request)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Neither failing to write the container's own name nor empty settings
	// prevent a start.
	if response := start(t, client, &agentv1.StartRequest{Process: nobody("probe", "say", "x", "4"), Hostname: "own", Resolver: &agentv1.ResolverSettings{}}); response.GetStarted() == nil {
		t.Errorf("start answered %v", response)
	}
	k.exitCode()
}
