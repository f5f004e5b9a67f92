package errortext_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/errortext"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

type failing struct {
	agentv1connect.UnimplementedAgentServiceHandler
}

var errLong = connect.NewError(connect.CodeNotFound, errors.New(strings.Repeat("ä", 1<<20)))

func (failing) Pause(context.Context, *connect.Request[agentv1.PauseRequest]) (*connect.Response[agentv1.PauseResponse], error) {
	return nil, errLong
}

func (failing) Export(context.Context, *connect.Request[agentv1.ExportRequest], *connect.ServerStream[agentv1.ExportResponse]) error {
	return errLong
}

func TestALongErrorReachesTheCallerWithItsCode(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(failing{}, errortext.Option()))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := server.Client().Transport.(*http.Transport)
	transport.MaxResponseHeaderBytes = 64 << 10 // as Node's client
	client := agentv1connect.NewAgentServiceClient(server.Client(), server.URL, connect.WithGRPC())
	_, unary := client.Pause(t.Context(), connect.NewRequest(&agentv1.PauseRequest{}))
	stream, err := client.Export(t.Context(), connect.NewRequest(&agentv1.ExportRequest{}))
	assert.NilError(t, err)
	for stream.Receive() {
	}
	for _, err := range []error{unary, stream.Err()} {
		if connect.CodeOf(err) != connect.CodeNotFound || !strings.HasSuffix(err.Error(), "ä …") {
			t.Errorf("%.200v", err)
		}
	}
}
