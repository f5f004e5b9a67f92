package forwarder

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// offeringAgent offers to take the client of each log, and has it then.
type offeringAgent struct {
	agentv1connect.UnimplementedAgentServiceHandler
	offers *handover.Offers
	before []*agentv1.LogsResponse // of the offer
	taken  chan handover.Client
	over   chan struct{} // the call is
}

func (a *offeringAgent) Logs(ctx context.Context, _ *connect.Request[agentv1.LogsRequest], stream *connect.ServerStream[agentv1.LogsResponse]) error {
	defer close(a.over)
	offer, err := a.offers.Make()
	if err != nil {
		return err
	}
	told := &agentv1.LogsResponse_Offer{Offer: &agentv1.HandOverOffer{Socket: offer.Socket, Token: offer.Token}}
	for _, message := range append(a.before, &agentv1.LogsResponse{Message: told}) {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	a.taken <- <-offer.Taken
	<-ctx.Done()
	return ctx.Err()
}

// serveOffering answers a log of an agent, and the agent.
func serveOffering(t *testing.T, before ...*agentv1.LogsResponse) (*offeringAgent, *held) {
	t.Helper()
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "agent"))
	assert.NilError(t, err)
	agent := &offeringAgent{
		offers: handover.NewOffers(filepath.Join(dir, "hand"), slog.Default()), before: before,
		taken: make(chan handover.Client, 1), over: make(chan struct{}),
	}
	_, handler := agentv1connect.NewAgentServiceHandler(agent)
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		agent.offers.Close()
	})
	request, err := proto.Marshal(&agentv1.LogsRequest{Stdout: true, HandOver: true})
	assert.NilError(t, err)
	return agent, &held{Head: "header\n", Log: &logCall{Socket: listener.Addr().String(), Request: request}}
}

func TestALogsClientIsItsAgentsAloneWhateverWasSaidBefore(t *testing.T) {
	heartbeat := &agentv1.LogsResponse{Message: &agentv1.LogsResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	for _, before := range [][]*agentv1.LogsResponse{nil, {heartbeat}} {
		agent, request := serveOffering(t, before...)
		frontend, lines := started(t, &forwarder{mostHeld: 1})
		fd, client := ends(t)
		sendTo(t, frontend, fd, handedOn{ID: 1, Held: request})
		_ = unix.Close(fd)
		if a := told(t, lines); a.ID != 1 || a.Error != "" || !a.Sent {
			t.Fatalf("%+v", a)
		}
		taken := <-agent.taken
		_, err := io.WriteString(taken.Conn, "log")
		assert.NilError(t, err)
		taken.Conn.Close() // as of an agent that dies
		if got, err := io.ReadAll(client); err != nil || string(got) != "header\nlog" {
			t.Fatalf("%q, %v", got, err)
		}
		select {
		case <-agent.over:
			t.Error("the call was broken off")
		default:
		}
	}
}

// refusing is a transport that reaches nobody.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, unix.ECONNREFUSED }

func TestACallForALogPreparesNoOtherCalls(t *testing.T) {
	f := &forwarder{transport: refusing{}}
	made := testing.AllocsPerRun(10, func() {
		_ = f.callLogs(t.Context(), nil, new(logCall), new(agentv1.LogsRequest), nil)
	})
	assert.Check(t, made <= 200, "a call makes %v objects", made)
}
