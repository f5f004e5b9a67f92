package server

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/llb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"gotest.tools/v3/assert"
)

func TestWhatACallDoesNotReadWaitsAtItsClient(t *testing.T) {
	s, server := running(t)
	isHeld, goOn := make(chan struct{}), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "StartContainer" {
			close(isHeld)
			<-goOn
		}
	}
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	definition, err := definitionOf(t.Context(), llb.Scratch().Run(llb.Args([]string{"held"})).Root())
	assert.NilError(t, err)
	address, _ := served(t, s)
	conn, err := grpc.NewClient("passthrough:///builder", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialer(address, "/grpc", http.Header{}) }))
	assert.NilError(t, err)
	defer conn.Close()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, controlapi.Control_Solve_FullMethodName)
	assert.NilError(t, err)
	assert.NilError(t, stream.SendMsg(&controlapi.SolveRequest{Ref: "held", Definition: definition}))
	<-isHeld
	sent := make(chan error, 1)
	go func() {
		large := &controlapi.SolveRequest{Ref: strings.Repeat("x", 1<<20)}
		for range 64 {
			if err := stream.SendMsg(large); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	select {
	case err := <-sent:
		t.Errorf("64 MiB were taken: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	release()
	_ = stream.RecvMsg(&controlapi.SolveResponse{}) // The build writes until it is over.
}
