package forwarder

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
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

// serveAt serves HTTP/2 at a unix socket.
func serveAt(t *testing.T, socket string, handler http.Handler) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// logOf returns a call for a log, which its backend opens with an answer.
func logOf(t *testing.T, opened string) *held {
	t.Helper()
	backend := filepath.Join(t.TempDir(), "backend")
	serveAt(t, backend, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		assert.Check(t, r.Method == http.MethodGet && r.URL.Path == "/sockerless.backend.v1.ContainerService/OpenLogs", "%s %s", r.Method, r.URL)
		assert.Check(t, asked.Get("encoding") == "json" && asked.Get("message") == `{"container":"web"}`, "%v", asked)
		assert.Check(t, r.Header.Get("sockerless-request-id") == "of a test")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, opened)
	}))
	request, err := proto.Marshal(&agentv1.LogsRequest{Stdout: true, HandOver: true})
	assert.NilError(t, err)
	return &held{
		Head:    "header\n",
		Headers: map[string]string{"sockerless-request-id": "of a test"},
		Log:     &logCall{Backend: backend, Open: json.RawMessage(`{"container":"web"}`), Request: request, TTYHead: "a terminal's\n"},
	}
}

// serveOffering answers a log of an agent, and the agent.
func serveOffering(t *testing.T, before ...*agentv1.LogsResponse) (*offeringAgent, *held) {
	t.Helper()
	dir := t.TempDir()
	agent := &offeringAgent{
		offers: handover.NewOffers(filepath.Join(dir, "hand"), slog.Default()), before: before,
		taken: make(chan handover.Client, 1), over: make(chan struct{}),
	}
	_, handler := agentv1connect.NewAgentServiceHandler(agent)
	serveAt(t, filepath.Join(dir, "agent"), handler)
	t.Cleanup(agent.offers.Close)
	return agent, logOf(t, fmt.Sprintf(`{"endpoint":{"unix_path":%q,"container_id":"id"}}`, filepath.Join(dir, "agent")))
}

// writingAgent answers each log by what it was asked.
type writingAgent struct {
	agentv1connect.UnimplementedAgentServiceHandler
}

func (writingAgent) Logs(_ context.Context, request *connect.Request[agentv1.LogsRequest], stream *connect.ServerStream[agentv1.LogsResponse]) error {
	asked := fmt.Sprintf("%s %s prefix=%q", request.Header().Get("sockerless-container-id"), request.Msg.Form, request.Msg.LinePrefix)
	chunk := &agentv1.LogsResponse_Chunk{Chunk: &agentv1.LogChunk{Stream: agentv1.Stream_STREAM_FRAMES, Data: []byte(asked)}}
	if err := stream.Send(&agentv1.LogsResponse{Message: chunk}); err != nil {
		return err
	}
	end := &agentv1.LogsResponse_End{End: &agentv1.LogsEnd{TotalBytes: uint64(len(asked))}}
	return stream.Send(&agentv1.LogsResponse{Message: end})
}

func TestALogIsReadAsItsBackendOpensIt(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "agent")
	_, handler := agentv1connect.NewAgentServiceHandler(writingAgent{})
	serveAt(t, agent, handler)
	for _, c := range []struct {
		of      string
		details bool
		want    string
	}{
		{`"tty":false`, false, "header\n" + chunked(`id LOG_FORM_FRAMES prefix=""`)},
		{`"tty":true`, false, "a terminal's\n" + chunked(`id LOG_FORM_LINES prefix=""`)},
		{`"details":{"b":"1 2","a&":"="}`, true, "header\n" + chunked(`id LOG_FORM_FRAMES prefix="a%26=%3D,b=1+2 "`)},
		{`"details":{}`, true, "header\n" + chunked(`id LOG_FORM_FRAMES prefix=" "`)},
		{`"details":{"b":"1"}`, false, "header\n" + chunked(`id LOG_FORM_FRAMES prefix=""`)},
	} {
		request := logOf(t, fmt.Sprintf(`{"endpoint":{"unix_path":%q,"container_id":"id"},%s}`, agent, c.of))
		request.Log.Details = c.details
		frontend, lines := started(t, &forwarder{mostHeld: logPlaces})
		fd, client := ends(t)
		sendTo(t, frontend, fd, handedOn{ID: 1, Held: request})
		_ = unix.Close(fd)
		if a := told(t, lines); a.ID != 1 || a.Error != "" || !a.Sent {
			t.Fatalf("%s: %+v", c.of, a)
		}
		_ = client.CloseWrite()
		got, err := io.ReadAll(client)
		assert.NilError(t, err)
		assert.Equal(t, string(got), c.want)
	}
}

// chunked returns a body of one of HTTP's chunks.
func chunked(text string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text) }

func TestALogOfAnAgentElsewhereIsLeftToTheFrontend(t *testing.T) {
	for _, endpoint := range []string{`{"tcp":{"host":"agent","port":9111},"container_id":"id"}`, `{"relay":{}}`, `{"called":{"unix_path":"/nowhere"}}`} {
		frontend, lines := started(t, &forwarder{mostHeld: logPlaces})
		fd, client := ends(t)
		sendTo(t, frontend, fd, handedOn{ID: 1, Held: logOf(t, `{"endpoint":`+endpoint+`}`)})
		if a := told(t, lines); a.ID != 1 || a.Error != errElsewhere.Error() || a.Sent {
			t.Fatalf("%+v", a)
		}
		_ = unix.Close(fd)
		if got, err := io.ReadAll(client); err != nil || len(got) > 0 {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestALogsClientIsItsAgentsAloneWhateverWasSaidBefore(t *testing.T) {
	heartbeat := &agentv1.LogsResponse{Message: &agentv1.LogsResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	for _, before := range [][]*agentv1.LogsResponse{nil, {heartbeat}} {
		agent, request := serveOffering(t, before...)
		frontend, lines := started(t, &forwarder{mostHeld: logPlaces})
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
		_ = f.callLogs(t.Context(), nil, new(openedLog), new(agentv1.LogsRequest), nil)
	})
	assert.Check(t, made <= 200, "a call makes %v objects", made)
}

// pouringAgent writes each log without an end.
type pouringAgent struct {
	agentv1connect.UnimplementedAgentServiceHandler
	sent *atomic.Int64
}

func (a pouringAgent) Logs(_ context.Context, _ *connect.Request[agentv1.LogsRequest], stream *connect.ServerStream[agentv1.LogsResponse]) error {
	const length = 32 << 10
	data := make([]byte, length)
	_, _ = rand.Read(data) // it is not compressible
	for offset := uint64(0); ; offset += length {
		chunk := &agentv1.LogChunk{Stream: agentv1.Stream_STREAM_FRAMES, Offset: offset, Data: data}
		if err := stream.Send(&agentv1.LogsResponse{Message: &agentv1.LogsResponse_Chunk{Chunk: chunk}}); err != nil {
			return err
		}
		a.sent.Add(length)
	}
}

func TestLogsThatNobodyReadsTakeNoMoreThanOtherClients(t *testing.T) {
	agent, sent := filepath.Join(t.TempDir(), "agent"), new(atomic.Int64)
	_, handler := agentv1connect.NewAgentServiceHandler(pouringAgent{sent: sent})
	serveAt(t, agent, handler)
	request := logOf(t, fmt.Sprintf(`{"endpoint":{"unix_path":%q,"container_id":"id"}}`, agent))
	const held, asked, ofOne = 4, 8, 192 << 10
	frontend, lines := started(t, &forwarder{mostHeld: held * logPlaces})
	taken := 0
	for id := range asked {
		fd, _ := ends(t)
		assert.NilError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10))
		sendTo(t, frontend, fd, handedOn{ID: id + 1, Held: request})
		_ = unix.Close(fd)
		if told(t, lines).Sent {
			taken++
		}
	}
	assert.Equal(t, taken, held)
	for before := int64(-1); sent.Load() > before; time.Sleep(200 * time.Millisecond) {
		before = sent.Load()
	}
	assert.Check(t, sent.Load() < held*ofOne, "%d bytes", sent.Load())
}
