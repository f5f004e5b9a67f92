package containerinit_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// passage is a caller's view of a tunnel.
type passage struct {
	t        *testing.T
	stream   *connect.BidiStreamForClient[agentv1.TunnelRequest, agentv1.TunnelResponse]
	sent     uint64
	received bytes.Buffer
	messages int // of data
}

func tunnelTo(t *testing.T, client agentv1connect.AgentServiceClient, open *agentv1.TunnelOpen) *passage {
	t.Helper()
	p := &passage{t: t, stream: client.Tunnel(patience(t))}
	_ = p.stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Open{Open: open}}) // why it fails is what is received
	return p
}

func (p *passage) opened() *passage {
	p.t.Helper()
	response, err := p.stream.Receive()
	must(p.t, err)
	if response.GetOpened() == nil {
		p.t.Fatalf("the tunnel began with %v", response)
	}
	return p
}

func (p *passage) send(data []byte) {
	p.t.Helper()
	must(p.t, p.stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Data{Data: &agentv1.TunnelData{Offset: p.sent, Data: data}}}))
	p.sent += uint64(len(data))
}

func (p *passage) end() {
	p.t.Helper()
	must(p.t, p.stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_End{End: &agentv1.TunnelEnd{TotalBytes: p.sent}}}))
}

// receive takes one message other than a heartbeat; its data is kept.
func (p *passage) receive() *agentv1.TunnelResponse {
	p.t.Helper()
	for {
		response, err := p.stream.Receive()
		must(p.t, err)
		if data := response.GetData(); data != nil {
			if data.Offset != uint64(p.received.Len()) {
				p.t.Fatalf("bytes are missing: %d after %d", data.Offset, p.received.Len())
			}
			p.received.Write(data.Data)
			p.messages++
		}
		if response.GetHeartbeat() == nil {
			return response
		}
	}
}

// until receives until the connection has delivered n bytes.
func (p *passage) until(length int) {
	p.t.Helper()
	for p.received.Len() < length {
		if response := p.receive(); response.GetData() == nil {
			p.t.Fatalf("%v after %d bytes", response, p.received.Len())
		}
	}
}

// toEnd receives until the connection's end.
func (p *passage) toEnd() {
	p.t.Helper()
	for {
		response := p.receive()
		if end := response.GetEnd(); end != nil {
			if end.TotalBytes != uint64(p.received.Len()) {
				p.t.Fatalf("%d of %d bytes came", p.received.Len(), end.TotalBytes)
			}
			return
		}
		if response.GetData() == nil {
			p.t.Fatalf("%v after %d bytes", response, p.received.Len())
		}
	}
}

// over expects the call's end.
func (p *passage) over() {
	p.t.Helper()
	if response, err := p.stream.Receive(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("after the last message: %v, %v", response, err)
	}
}

// serves starts a container that listens, and returns the port.
func serves(t *testing.T, network string) (client agentv1connect.AgentServiceClient, port uint32, main *conversation) {
	t.Helper()
	k := startTask(t, taskOptions{arguments: forLong})
	port, main = servesIn(t, k, network)
	return k.client(), port, main
}

// servesIn starts a server on a container's loopback, or at a host there, and
// returns the port.
func servesIn(t *testing.T, k *task, network string, host ...string) (port uint32, main *conversation) {
	t.Helper()
	main = attach(t, k.client(), "a")
	start(t, k.client(), &agentv1.StartRequest{Process: nobody(append([]string{"probe", "serve", network}, host...)...), AwaitAttachIds: []string{"a"}, OpenStdin: true})
	main.until("\n")
	number, err := strconv.ParseUint(strings.TrimSpace(main.stdout.String()), 10, 16)
	must(t, err)
	return uint32(number), main
}

func tcp(port uint32) *agentv1.TunnelOpen {
	return &agentv1.TunnelOpen{Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, Port: port}
}

func TestATunnelCarriesAConnectionWithItsHalfCloses(t *testing.T) {
	t.Parallel()
	client, port, _ := serves(t, "tcp")
	p := tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("echo\n"))
	p.send([]byte("hello"))
	p.until(5)
	p.send([]byte(", world"))
	p.end() // the server answers what is left, and then its own end
	p.toEnd()
	p.over()
	if p.received.String() != "hello, world" {
		t.Errorf("received %q", p.received.String())
	}

	p = tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("close first\n"))
	p.toEnd() // the server's end, while ours is open
	p.end()
	p.over()
	if p.received.String() != "bye" {
		t.Errorf("received %q", p.received.String())
	}
}

func TestATunnelSaysWhyThereIsNoConnection(t *testing.T) {
	t.Parallel()
	client, port, _ := serves(t, "tcp")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	nobody := uint32(closed.Addr().(*net.TCPAddr).Port)
	response := tunnelTo(t, client, tcp(nobody)).receive()
	if failure := response.GetError(); failure.GetReason() != agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_REFUSED {
		t.Errorf("a port without a listener: %v", response)
	}
	p := tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("reset\n"))
	if failure := p.receive().GetError(); failure.GetReason() != agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_RESET {
		t.Errorf("a connection that was reset: %v", failure)
	}
	p.over()
	for name, open := range map[string]*agentv1.TunnelOpen{
		"no port":     tcp(0),
		"large port":  tcp(65536),
		"no address":  {Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, Host: "localhost", Port: 1},
		"no protocol": {Port: port},
	} {
		_, err := tunnelTo(t, client, open).stream.Receive()
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "%s: %v", name, err)
	}
}

func TestAPublishedPortIsAtTheInterface(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, network: true})
	giveInterface(t, k)
	port, _ := servesIn(t, k, "tcp")
	for host, reason := range map[string]agentv1.TunnelErrorReason{
		"":        0,
		"0.0.0.0": agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_REFUSED, // who listens does so on the loopback
		"::":      agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_REFUSED,
	} {
		open := tcp(port)
		open.Host = host
		if response := tunnelTo(t, k.client(), open).receive(); response.GetError().GetReason() != reason {
			t.Errorf("at %q: %v", host, response)
		}
	}
}

func TestACallerThatLeavesResetsTheConnection(t *testing.T) {
	t.Parallel()
	client, port, main := serves(t, "tcp")
	p := tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("tell\n"))
	p.until(len("listening"))
	must(t, p.stream.CloseRequest()) // without an end
	_, err := p.stream.Receive()
	assert.Check(t, connect.CodeOf(err) == connect.CodeDataLoss, "a cut tunnel: %v", err)
	main.until("connection reset by peer\n")
}

func TestABlockedConnectionHoldsItsCallerBackAndNobodyElse(t *testing.T) {
	t.Parallel()
	client, port, _ := serves(t, "tcp")
	p := tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("ignore\n"))
	blocked := make(chan struct{})
	go func() { // more than all buffers on the way hold
		defer close(blocked)
		chunk := make([]byte, 1<<20)
		for range 64 {
			if p.stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Data{Data: &agentv1.TunnelData{Offset: p.sent, Data: chunk}}}) != nil {
				return
			}
			p.sent += uint64(len(chunk))
		}
		t.Error("64 MiB were taken from the caller that nobody read")
	}()
	other := tunnelTo(t, client, tcp(port)).opened()
	other.send([]byte("echo\nfree"))
	other.until(4)
	_ = p.stream.CloseResponse()
	_ = p.stream.CloseRequest()
	<-blocked
}

func TestDatagramsAreKeptApart(t *testing.T) {
	t.Parallel()
	client, port, main := serves(t, "udp")
	p := tunnelTo(t, client, &agentv1.TunnelOpen{Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP, Port: port}).opened()
	large := bytes.Repeat([]byte("x"), 40_000)
	for i, datagram := range [][]byte{[]byte("one"), {}, large} {
		before := p.received.Len()
		p.send(datagram)
		p.receive()
		if p.messages != i+1 || !bytes.Equal(p.received.Bytes()[before:], datagram) {
			t.Fatalf("datagram %d: %d messages, %d bytes", i, p.messages, p.received.Len()-before)
		}
	}
	idle := tunnelTo(t, client, &agentv1.TunnelOpen{Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP, Port: port}).opened()
	p.end()
	p.toEnd()
	p.over()
	main.write("end")
	main.closeStdin()
	idle.toEnd() // the container's end is the tunnel's
	idle.over()
}

func TestTunnelThroughput(t *testing.T) {
	if os.Getenv("SOCKERLESS_MEASURE") == "" {
		t.Skip("a measurement: set SOCKERLESS_MEASURE")
	}
	k := startTask(t, taskOptions{arguments: forLong})
	port, _ := servesIn(t, k, "tcp")
	for name, client := range map[string]agentv1connect.AgentServiceClient{"control": k.client(), "a partner": k.partner()} {
		measureTunnel(t, name, client, port)
	}
}

func measureTunnel(t *testing.T, name string, client agentv1connect.AgentServiceClient, port uint32) {
	t.Helper()
	const size = 1 << 30
	p := tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("flood " + strconv.Itoa(size) + "\n"))
	begun := time.Now()
	received := 0
	for received < size {
		response, err := p.stream.Receive()
		must(t, err)
		received += len(response.GetData().GetData())
	}
	t.Logf("%s, out: %.0f MB/s", name, size/1e6/time.Since(begun).Seconds())
	p = tunnelTo(t, client, tcp(port)).opened()
	p.send([]byte("swallow\n"))
	begun = time.Now()
	chunk := make([]byte, 256<<10)
	for range size / len(chunk) {
		p.send(chunk)
	}
	p.end()
	p.toEnd()
	t.Logf("%s, in: %.0f MB/s", name, size/1e6/time.Since(begun).Seconds())
}
