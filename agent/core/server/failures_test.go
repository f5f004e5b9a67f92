package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// A failing call is logged with its client's request ID; a refused call is not,
// nor an ID that would inject log lines.
func TestAFailedCallNamesItsRequest(t *testing.T) {
	var failure error
	var said bytes.Buffer
	handler := NewHandler(func(context.Context, string) (Container, error) { return nil, failure })
	served := httptest.NewUnstartedServer(handler)
	served.Config.BaseContext = NewServer(handler, slog.New(slog.NewTextHandler(&said, nil))).BaseContext
	served.Start()
	defer served.Close()

	client := agentv1connect.NewAgentServiceClient(http.DefaultClient, served.URL)
	call := func(err error, id string) string {
		failure = err
		said.Reset()
		request := connect.NewRequest(&agentv1.HelloRequest{})
		request.Header().Set(RequestIDKey, id)
		if _, err := client.Hello(t.Context(), request); err == nil {
			t.Fatal("the call did not fail")
		}
		return said.String()
	}
	if log := call(errors.New("the disk is gone"), "0123abcd"); !strings.Contains(log, "request=0123abcd") || !strings.Contains(log, "the disk is gone") {
		t.Errorf("the log says %q", log)
	}
	if log := call(errors.New("the disk is gone"), "x level=ERROR"); strings.Contains(log, "level=ERROR") {
		t.Errorf("a caller has written %q", log)
	}
	if log := call(connect.NewError(connect.CodeNotFound, errors.New("no such container")), "0123abcd"); log != "" {
		t.Errorf("a refusal is logged: %q", log)
	}
}
