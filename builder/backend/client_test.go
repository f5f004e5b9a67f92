package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// cutContent ends its reader's call in the middle.
type cutContent struct{ cut context.CancelFunc }

func (c cutContent) WriteTo(to io.Writer) (int64, error) {
	defer c.cut()
	n, err := to.Write(make([]byte, chunkBytes))
	return int64(n), err
}

func TestTheConnectionOfAnUploadThatIsCutIsClosed(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "skl-builder-")
	assert.NilError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(agentv1connect.UnimplementedAgentServiceHandler{}))
	closed := make(chan struct{}, 1)
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	client, err := Dial("unix://" + filepath.Join(dir, "backend.sock"))
	assert.NilError(t, err)
	ctx, cut := context.WithCancel(t.Context())
	at := &backendv1.AgentEndpoint{ContainerId: "upload", Address: &backendv1.AgentEndpoint_UnixPath{UnixPath: socket}}
	if err := client.putLayer(ctx, at, cutContent{cut}); err == nil {
		t.Fatal("succeeded")
	}
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Error("the connection stays open")
	}
}
