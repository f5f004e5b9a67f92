package containerinit_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// clientOver is a partner whose connections a test configures. It shows one
// certificate.
func (k *task) clientOver(transport *http.Transport) agentv1connect.AgentServiceClient {
	k.t.Helper()
	transport.TLSClientConfig, transport.ForceAttemptHTTP2, transport.DialContext = k.configAs("partner"), true, k.network
	k.t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "https://"+k.address, connect.WithGRPC())
}

// peakMemory is the most that the agent has had resident, in MiB.
func (k *task) peakMemory() int {
	k.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.pid()))
	must(k.t, err)
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]))
	must(k.t, err)
	return kib >> 10
}

func TestTunnelsThatAPartnerDoesNotReadAreBounded(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	port, _ := servesIn(t, k, "tcp")
	before := k.peakMemory()
	partner := k.clientOver(&http.Transport{HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}})
	var open []*passage
	for i := range 300 {
		p := tunnelTo(t, partner, tcp(port))
		response := p.receive()
		if i >= 128 {
			if response.GetError() == nil {
				t.Fatalf("tunnel %d: %v", i+1, response)
			}
			continue
		}
		p.send([]byte("flood 1048576\n"))
		open = append(open, p)
	}
	for _, p := range open {
		p.receive() // the first of its data
	}
	if grown := k.peakMemory() - before; grown > 100 {
		t.Errorf("the agent has grown by %d MiB", grown)
	}
	tunnelTo(t, k.partner(), tcp(port)).opened() // another container's
	must(t, open[0].stream.CloseRequest())
	must(t, open[0].stream.CloseResponse())
	k.await("the place of a tunnel that ended", func() bool {
		return tunnelTo(t, partner, tcp(port)).receive().GetOpened() != nil
	})
}

func TestAPeersTunnelsToUDPKeepNoneToTCPOutNorTheReverse(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, network: true})
	giveInterface(t, k)
	port, _ := servesIn(t, k, "tcp", interfaceAddress)
	const tcpKind, udpKind = agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP
	for many, other := range map[agentv1.TransportProtocol]agentv1.TransportProtocol{tcpKind: udpKind, udpKind: tcpKind} {
		peer := k.as("peer")
		to := func(protocol agentv1.TransportProtocol) *agentv1.TunnelResponse {
			response, err := tunnelTo(t, peer, &agentv1.TunnelOpen{Protocol: protocol, Host: interfaceAddress, Port: port}).stream.Receive()
			must(t, err)
			return response
		}
		opened := 0
		for ; to(many).GetOpened() != nil; opened++ {
		}
		assert.Check(t, opened == 128, "%d tunnels by %v", opened, many)
		if response := to(other); response.GetOpened() == nil {
			t.Errorf("beside as many by %v as may be, one by %v: %v", many, other, response)
		}
	}
}

func TestAPartnerFollowsTheListenersAFewTimes(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	partner := k.partner()
	follow := func() (*connect.ServerStreamForClient[agentv1.ListenersResponse], error) {
		stream, err := partner.Listeners(patience(t), connect.NewRequest(&agentv1.ListenersRequest{}))
		must(t, err)
		stream.Receive()
		return stream, stream.Err()
	}
	first, err := follow()
	must(t, err)
	for range 3 {
		_, err := follow()
		must(t, err)
	}
	if _, err := follow(); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("the fifth: %v", err)
	}
	must(t, first.Close())
	k.await("the place of one that ended", func() bool {
		_, err := follow()
		return err == nil
	})
}

func TestAPartnersMessagesAreSmallExceptForItsData(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	port, _ := servesIn(t, k, "tcp")
	large := tcp(port)
	large.Host = strings.Repeat("x", 100_000)
	if _, err := tunnelTo(t, k.client(), large).stream.Receive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("the frontend's: %v", err)
	}
	if _, err := tunnelTo(t, k.partner(), large).stream.Receive(); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a partner's: %v", err)
	}
	p := tunnelTo(t, k.partner(), tcp(port)).opened()
	p.send([]byte("swallow\n"))
	p.send(bytes.Repeat([]byte("x"), 3<<20))
	p.end()
	p.toEnd()
}

func TestAPartnersConnectionsAreCountedUntilTheyEnd(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	partner := k.clientOver(&http.Transport{DisableKeepAlives: true})
	for range 150 { // more than may be open
		stream, err := partner.Listeners(patience(t), connect.NewRequest(&agentv1.ListenersRequest{}))
		must(t, err)
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		stream.Close()
	}
}
