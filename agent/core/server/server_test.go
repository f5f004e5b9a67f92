package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// quietSession sends `started`, takes stdin, and ends on demand.
type quietSession struct {
	Session
	opened bool
	stdin  chan string
	end    chan struct{}
	closed chan struct{}
}

func (s *quietSession) Next(ctx context.Context) (*agentv1.SessionResponse, error) {
	if !s.opened {
		s.opened = true
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Started{Started: &agentv1.SessionStarted{}}}, nil
	}
	select {
	case <-s.end:
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Exit{Exit: &agentv1.ExitStatus{Code: 7}}}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *quietSession) WriteStdin(_ context.Context, data []byte) error {
	s.stdin <- string(data)
	return nil
}

func (s *quietSession) CloseStdin() { s.stdin <- "EOF" }
func (s *quietSession) Leave()      { s.stdin <- "LEFT" }
func (s *quietSession) Close()      { close(s.closed) }

type fakeContainer struct {
	Unimplemented
	session *quietSession
}

func (c *fakeContainer) Attach(context.Context, *agentv1.OpenAttach) (Session, error) {
	return c.session, nil
}

// serve serves one quiet session and returns a client.
func serve(t *testing.T) (*quietSession, *Gate, agentv1connect.AgentServiceClient) {
	t.Helper()
	s := &quietSession{stdin: make(chan string, 10), end: make(chan struct{}), closed: make(chan struct{})}
	container := &fakeContainer{Unimplemented: Unimplemented{Mode: "a test"}, session: s}
	gate := NewGate()
	return s, gate, serveBehind(t, gate, container)
}

// serveBehind serves a container behind a gate and returns a client.
func serveBehind(t *testing.T, gate *Gate, container Container) agentv1connect.AgentServiceClient {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	server := NewServer(gate.Wrap(NewHandler(func(_ context.Context, id string) (Container, error) {
		if id == "unknown" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no such container"))
		}
		return container, nil
	})), slog.New(slog.DiscardHandler))
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "http://agent", connect.WithGRPC())
}

func contextFor(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func impatient(t *testing.T) {
	heartbeat, silence := heartbeatEvery, silenceLimit
	heartbeatEvery, silenceLimit = 20*time.Millisecond, 5*time.Second
	t.Cleanup(func() { heartbeatEvery, silenceLimit = heartbeat, silence })
}

var (
	openAttach = &agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenAttach{OpenAttach: &agentv1.OpenAttach{}}}
	heartbeat  = &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
)

func stdin(offset uint64, data string) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Offset: offset, Data: []byte(data)}}}
}

func send(t *testing.T, stream *connect.BidiStreamForClient[agentv1.SessionRequest, agentv1.SessionResponse], requests ...*agentv1.SessionRequest) {
	t.Helper()
	for _, request := range requests {
		assert.NilError(t, stream.Send(request))
	}
}

func TestAQuietSessionBeatsAndEndsWithItsLastMessage(t *testing.T) {
	impatient(t)
	s, _, client := serve(t)
	stream := client.Session(contextFor(t))
	send(t, stream, openAttach)
	begun, isOver := time.Now(), false
	for {
		response, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		if response.GetHeartbeat() != nil {
			send(t, stream, heartbeat)
		}
		// Longer than the silence that a peer without heartbeats may keep.
		if !isOver && time.Since(begun) > silenceLimit+500*time.Millisecond {
			close(s.end)
			isOver = true
		}
		if response.GetExit() != nil && response.GetExit().Code != 7 {
			t.Fatal(response)
		}
	}
	<-s.closed
}

func TestASilentClientIsCut(t *testing.T) {
	impatient(t)
	s, _, client := serve(t)
	stream := client.Session(contextFor(t))
	send(t, stream, openAttach)
	for {
		if _, err := stream.Receive(); err != nil {
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), "silent") {
				t.Fatal(err)
			}
			break
		}
	}
	<-s.closed
}

func TestAHalfCloseLeavesStdinOpenAndTheSessionAlive(t *testing.T) {
	impatient(t)
	s, _, client := serve(t)
	stream := client.Session(contextFor(t))
	send(t, stream, openAttach, stdin(0, "abc"), stdin(3, "d"))
	assert.NilError(t, stream.CloseRequest())
	for _, want := range []string{"abc", "d"} {
		if got := <-s.stdin; got != want {
			t.Fatalf("stdin %q", got)
		}
	}
	for begun := time.Now(); time.Since(begun) < silenceLimit+500*time.Millisecond; {
		_, err := stream.Receive()
		assert.NilError(t, err)
	}
	if len(s.stdin) != 0 {
		t.Fatalf("stdin got %q", <-s.stdin)
	}
	close(s.end)
	<-s.closed
}

func TestABrokenSessionIsRefused(t *testing.T) {
	closeStdin := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}}
	cases := map[string]struct {
		requests []*agentv1.SessionRequest
		code     connect.Code
	}{
		"not opened":   {nil, connect.CodeInvalidArgument},
		"stdin first":  {[]*agentv1.SessionRequest{stdin(0, "x")}, connect.CodeInvalidArgument},
		"opened twice": {[]*agentv1.SessionRequest{openAttach, openAttach}, connect.CodeInvalidArgument},
		"a gap":        {[]*agentv1.SessionRequest{openAttach, stdin(0, "abc"), stdin(4, "e")}, connect.CodeDataLoss},
		"a repetition": {[]*agentv1.SessionRequest{openAttach, stdin(0, "abc"), stdin(2, "c")}, connect.CodeDataLoss},
		"empty":        {[]*agentv1.SessionRequest{{}, closeStdin}, connect.CodeInvalidArgument},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, client := serve(t)
			stream := client.Session(contextFor(t))
			for _, request := range test.requests {
				_ = stream.Send(request) // the answer may be there already
			}
			_ = stream.CloseRequest()
			var err error
			for err == nil {
				_, err = stream.Receive()
			}
			assert.Assert(t, connect.CodeOf(err) == test.code, err)
		})
	}
}

func TestWhatAModeCannotDoIsRefusedByName(t *testing.T) {
	_, _, client := serve(t)
	_, err := client.Pause(contextFor(t), connect.NewRequest(&agentv1.PauseRequest{}))
	if connect.CodeOf(err) != connect.CodeUnimplemented || !strings.Contains(err.Error(), "a test does not implement Pause") {
		t.Fatal(err)
	}
}

func TestTheMetadataKeyChoosesTheContainer(t *testing.T) {
	_, _, client := serve(t)
	request := connect.NewRequest(&agentv1.PauseRequest{})
	request.Header().Set(ContainerIDKey, "unknown")
	if _, err := client.Pause(contextFor(t), request); connect.CodeOf(err) != connect.CodeNotFound {
		t.Fatal(err)
	}
}

func TestAnAgentThatLeavesFinishesItsCallsAndTakesNoMore(t *testing.T) {
	s, gate, client := serve(t)
	stream := client.Session(contextFor(t))
	send(t, stream, openAttach)
	_, err := stream.Receive()
	assert.NilError(t, err)
	gate.Close()
	if _, err := client.Pause(contextFor(t), connect.NewRequest(&agentv1.PauseRequest{})); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	assert.Assert(t, gate.WaitIdle(short) != nil, "a session is under way")
	if err := gate.WaitReleased(contextFor(t)); err != nil {
		t.Fatal("it gives output, and needs nothing else")
	}
	close(s.end)
	if response, err := stream.Receive(); err != nil || response.GetExit() == nil {
		t.Fatal(response, err)
	}
	assert.NilError(t, gate.WaitIdle(contextFor(t)))
}

func TestWhatManyCallsTookIsGivenBack(t *testing.T) {
	handler := NewHandler(func(context.Context, string) (Container, error) { return nil, errors.New("none") })
	before := forcedCollections()
	for range 256 {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	for forcedCollections() == before {
		time.Sleep(10 * time.Millisecond)
	}
}

// zeros is endless, and counts what is taken.
type zeros struct{ taken atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	z.taken.Add(int64(len(p)))
	return len(p), nil
}

func TestAServerHoldsLittleOfWhatNeighboursSend(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	idle := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := ForNeighbours(NewServer(idle, slog.New(slog.DiscardHandler)), 100)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	sent := &zeros{}
	for range 8 {
		request, err := http.NewRequestWithContext(contextFor(t), http.MethodPost, "http://"+listener.Addr().String(), io.NopCloser(sent))
		assert.NilError(t, err)
		go client.Do(request)
	}
	for sent.taken.Load() < neighbourWindow {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // for what must not come
	// Beside the window each request's next frame is ready.
	if taken, most := sent.taken.Load(), int64(neighbourWindow+8*neighbourFrame); taken > most {
		t.Errorf("%d bytes were taken, not %d at most", taken, most)
	}
}

// forcedCollections counts collections that code has requested.
func forcedCollections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumForcedGC
}
