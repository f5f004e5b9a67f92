package handover

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// quiet is a session with output on request, which ends when its client leaves.
type quiet struct {
	Session
	output chan []byte
	left   chan struct{}
}

func (q *quiet) CloseStdin() {}
func (q *quiet) Leave()      { close(q.left) }

func (q *quiet) Next(ctx context.Context) (*agentv1.SessionResponse, error) {
	select {
	case data := <-q.output:
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Stdout{Stdout: &agentv1.Output{Data: data}}}, nil
	case <-q.left:
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Detached{Detached: &agentv1.SessionDetached{}}}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func TestAClientThatHangsUpLeavesAQuietSession(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	assert.NilError(t, err)
	defer listener.Close()
	dialled, err := net.Dial("unix", listener.Addr().String())
	assert.NilError(t, err)
	accepted, err := listener.Accept()
	assert.NilError(t, err)
	session := &quiet{output: make(chan []byte), left: make(chan struct{})}
	over := make(chan struct{})
	go func() {
		defer close(over)
		Carry(Client{Conn: accepted.(*net.UnixConn)}, session, Way{Stdin: true})
	}()
	assert.NilError(t, dialled.(*net.UnixConn).CloseWrite())
	session.output <- []byte("read on")
	_, err = io.ReadFull(dialled, make([]byte, len("read on")))
	assert.NilError(t, err)
	dialled.Close()
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Fatal("the session goes on")
	}
}
