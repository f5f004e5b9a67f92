package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/buildid"
	"github.com/moby/buildkit/client/llb"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"gotest.tools/v3/assert"
)

// connected is a client's connection.
func connected(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	address, _ := served(t, s)
	conn, err := grpc.NewClient("passthrough:///builder", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialer(address, "/grpc", http.Header{}) }))
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAClientBakesHundredsOfTargetsAtATime(t *testing.T) {
	s, _ := running(t)
	conn := connected(t, s)
	control, bridge := controlapi.NewControlClient(conn), gatewaypb.NewLLBBridgeClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var solving errgroup.Group
	var refs []string
	for target := range 260 {
		ref := fmt.Sprint("target ", target)
		refs = append(refs, ref)
		solving.Go(func() error { // until its frontend, which is the client, has returned
			_, err := control.Solve(ctx, &controlapi.SolveRequest{Ref: ref, Internal: true})
			return err
		})
	}
	for _, ref := range refs {
		for isSolved := false; !isSolved; { // A call waits three seconds for its build.
			_, err := bridge.Return(buildid.AppendToOutgoingContext(ctx, ref), &gatewaypb.ReturnRequest{Result: &gatewaypb.Result{}})
			isSolved = err == nil
			assert.NilError(t, ctx.Err())
		}
	}
	assert.NilError(t, solving.Wait())
}

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
	conn := connected(t, s)
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
