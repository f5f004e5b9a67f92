package containerinit_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// interfaceAddress is that of a container which the test has given one.
const interfaceAddress = "10.77.0.2"

func giveInterface(t *testing.T, k *task) {
	t.Helper()
	add := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", k.pid()), "ip", "address", "add", interfaceAddress+"/32", "dev", "lo")
	if output, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

func TestAPeerReachesNothingOfTheLoopback(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, network: true})
	giveInterface(t, k)
	port, _ := servesIn(t, k, "tcp")
	peer := k.as("peer")

	stream, err := peer.Listeners(patience(t), connect.NewRequest(&agentv1.ListenersRequest{}))
	must(t, err)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if told := stream.Msg().GetTable().GetListeners(); len(told) > 0 {
		t.Errorf("told %v, and all that listens is on the loopback", told)
	}
	stream.Close()
	for _, host := range []string{"", "127.0.0.1", "127.18.0.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.170.2"} {
		for _, protocol := range []agentv1.TransportProtocol{1, 2} {
			response, err := tunnelTo(t, peer, &agentv1.TunnelOpen{Protocol: protocol, Host: host, Port: port}).stream.Receive()
			must(t, err)
			assert.Check(t, response.GetError() != nil, "a peer reached %q by %v: %v", host, protocol, response)
		}
	}
	response, err := tunnelTo(t, peer, &agentv1.TunnelOpen{Protocol: 1, Host: interfaceAddress, Port: port}).stream.Receive()
	must(t, err)
	if response.GetError().GetReason() != agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_REFUSED {
		t.Errorf("at the interface, where nobody listens: %v", response)
	}
	if _, err := peer.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("Hello: %v", err)
	}
}

func TestPeersThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	k := startTask(t, b.options())
	client := b.client(k.id, b.ca)
	id := strings.Repeat("0", 64)
	foreign := b.ca.issue(id, nil).Certificate
	for name, peer := range map[string]*agentv1.Peer{
		"no ID":             {ContainerId: "0", Pin: make([]byte, 32), Certificates: foreign, Addresses: []string{"127.18.0.3"}},
		"no pin":            {ContainerId: id, Certificates: foreign, Addresses: []string{"127.18.0.3"}},
		"no address":        {ContainerId: id, Pin: make([]byte, 32), Certificates: foreign},
		"another's":         {ContainerId: id, Pin: make([]byte, 32), Certificates: foreign, Addresses: []string{"172.18.0.3"}},
		"no certificate":    {ContainerId: id, Pin: make([]byte, 32), Addresses: []string{"127.18.0.3"}},
		"for another's key": {ContainerId: id, Pin: make([]byte, 32), Certificates: foreign, Addresses: []string{"127.18.0.3"}},
	} {
		_, err := client.Names(patience(t), connect.NewRequest(&agentv1.NamesRequest{Peers: []*agentv1.Peer{peer}}))
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "%s: %v", name, err)
	}
}
