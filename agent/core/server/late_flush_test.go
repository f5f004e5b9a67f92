package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// loggedContainer has a log.
type loggedContainer struct {
	Unimplemented
	writer *log.Writer
}

func (c *loggedContainer) Logs(_ context.Context, options log.ReadOptions) (*log.Reader, error) {
	return c.writer.Reader(options)
}

// serveLog serves a log of two lines, one of each stream, and answers who asks for
// it over HTTP/1.1.
func serveLog(t *testing.T) (*countingListener, func(*agentv1.LogsRequest) *http.Response) {
	t.Helper()
	after := flushAfter
	flushAfter = time.Hour // however slow the machine is
	t.Cleanup(func() { flushAfter = after })
	writer, _, err := log.Open(t.TempDir(), log.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Close() })
	for stream, line := range map[log.Stream]string{log.Stdout: "out\n", log.Stderr: "err\n"} {
		if err := writer.Append(stream, time.Now(), []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	listener := &countingListener{Listener: inner}
	container := &loggedContainer{Unimplemented{Mode: "a test"}, writer}
	server := NewServer(NewHandler(func(context.Context, string) (Container, error) { return container, nil }), slog.Default())
	go server.Serve(listener)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
	})
	return listener, func(message *agentv1.LogsRequest) *http.Response {
		t.Helper()
		body, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		prefix := []byte{0, 0, 0, 0, byte(len(body))}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"http://agent"+agentv1connect.AgentServiceLogsProcedure, bytes.NewReader(append(prefix, body...)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/grpc+proto")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
}

func TestAShortLogOverHTTP1LeavesInOneWrite(t *testing.T) {
	listener, ask := serveLog(t)
	response := ask(&agentv1.LogsRequest{Stdout: true, Stderr: true})
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(body, []byte("out\n")) || !bytes.Contains(body, []byte("err\n")) {
		t.Errorf("the log came as %q", body)
	}
	if status := response.Trailer.Get("Grpc-Status"); status != "0" {
		t.Errorf("status %q in the trailers", status)
	}
	if writes := listener.writes.Load(); writes != 1 {
		t.Errorf("%d writes", writes)
	}
}

func TestAFollowedLogOverHTTP1IsFlushedAtOnce(t *testing.T) {
	_, ask := serveLog(t)
	response := ask(&agentv1.LogsRequest{Stdout: true, Follow: true})
	var got []byte
	for !bytes.Contains(got, []byte("out\n")) { // nothing more comes, and no end
		part := make([]byte, 1<<10)
		n, err := response.Body.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part[:n]...)
	}
}

func TestAShortLogThatIsRefusedSaysWhyInTheTrailers(t *testing.T) {
	_, ask := serveLog(t)
	response := ask(&agentv1.LogsRequest{Records: true, Stdout: true})
	_, _ = io.Copy(io.Discard, response.Body)
	status := response.Header.Get("Grpc-Status") + response.Trailer.Get("Grpc-Status")
	if status != "3" {
		t.Errorf("status %q, not that of %v", status, connect.CodeInvalidArgument)
	}
}
