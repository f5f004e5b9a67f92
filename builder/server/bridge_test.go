package server

import (
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/frontend"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// bridgeServer is BuildKit's end of the talk with a frontend.
type bridgeServer struct {
	gatewaypb.UnimplementedLLBBridgeServer
}

func (bridgeServer) Ping(context.Context, *gatewaypb.PingRequest) (*gatewaypb.PongResponse, error) {
	return &gatewaypb.PongResponse{LLBCaps: pb.Caps.All()}, nil
}

func (bridgeServer) Evaluate(context.Context, *gatewaypb.EvaluateRequest) (*gatewaypb.EvaluateResponse, error) {
	return &gatewaypb.EvaluateResponse{}, nil
}

func (bridgeServer) ReadFile(_ context.Context, request *gatewaypb.ReadFileRequest) (*gatewaypb.ReadFileResponse, error) {
	if request.FilePath == "" {
		return nil, status.Error(codes.NotFound, "there is no such file")
	}
	return &gatewaypb.ReadFileResponse{Data: make([]byte, 1<<20)}, nil
}

func (bridgeServer) Return(_ context.Context, request *gatewaypb.ReturnRequest) (*gatewaypb.ReturnResponse, error) {
	panic("a reference without a value")
}

func (bridgeServer) ExecProcess(stream gatewaypb.LLBBridge_ExecProcessServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

// inImage runs a frontend as BuildKit runs those in images, and serves it likewise.
type inImage struct{ frontend.Frontend }

func (inImage) Solve(ctx context.Context, _ frontend.FrontendLLBBridge, ex executor.Executor, _ map[string]string, _ map[string]*pb.Definition, _ string, _ *session.Manager) (*frontend.Result, error) {
	fromServer, toContainer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromContainer, toServer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	gatewaypb.RegisterLLBBridgeServer(server, bridgeServer{})
	near, far := net.Pipe()
	defer near.Close()
	go func() { _, _ = io.Copy(near, fromContainer) }()
	go func() { _, _ = io.Copy(toContainer, near) }()
	go (&http2.Server{}).ServeConn(far, &http2.ServeConnOpts{Handler: server})
	_, err = ex.Run(ctx, "", executor.Mount{}, nil, executor.ProcessInfo{Stdin: fromServer, Stdout: toServer, Stderr: os.Stderr}, nil)
	return nil, err
}

// container is an executor whose containers are a function.
type container struct {
	executor.Executor
	run func(talk net.Conn) error
}

func (c container) Run(_ context.Context, _ string, _ executor.Mount, _ []executor.Mount, process executor.ProcessInfo, _ chan<- struct{}) (resourcestypes.Recorder, error) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		_, _ = io.Copy(process.Stdout, far)
	}()
	go func() { _, _ = io.Copy(far, process.Stdin) }()
	return nil, c.run(near)
}

// talked has a frontend in an image talk.
func talked(t *testing.T, s *Server, run func(talk net.Conn) error) error {
	t.Helper()
	_, err := (&named{inImage{}, s}).Solve(t.Context(), nil, container{run: run}, nil, nil, "", nil)
	return err
}

func TestAFrontendInAnImageIsAnswered(t *testing.T) {
	s, _ := running(t)
	assert.NilError(t, talked(t, s, func(talk net.Conn) error {
		made, err := grpc.NewClient("passthrough:container", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return talk, nil }))
		assert.NilError(t, err)
		defer made.Close()
		bridge := gatewaypb.NewLLBBridgeClient(made)
		pong, err := bridge.Ping(t.Context(), &gatewaypb.PingRequest{})
		assert.NilError(t, err)
		assert.Check(t, len(pong.LLBCaps) > 0)
		file, err := bridge.ReadFile(t.Context(), &gatewaypb.ReadFileRequest{FilePath: "file"})
		assert.NilError(t, err)
		assert.Check(t, is.Len(file.Data, 1<<20))
		_, err = bridge.ReadFile(t.Context(), &gatewaypb.ReadFileRequest{})
		assert.Equal(t, status.Code(err), codes.NotFound)
		process, err := bridge.ExecProcess(t.Context())
		assert.NilError(t, err)
		for _, id := range []string{"one", "two"} {
			assert.NilError(t, process.Send(&gatewaypb.ExecMessage{ProcessID: id}))
			echo, err := process.Recv()
			assert.NilError(t, err)
			assert.Equal(t, echo.ProcessID, id)
		}
		assert.NilError(t, process.CloseSend())
		_, err = process.Recv()
		assert.ErrorIs(t, err, io.EOF)
		// BuildKit itself recovers none of its panics.
		_, err = bridge.Return(t.Context(), &gatewaypb.ReturnRequest{})
		assert.Check(t, is.ErrorContains(err, "a reference without a value"))
		return nil
	}))
	untilHeld(t, s, func(sum int) bool { return sum == 0 })
}

func TestWhatAFrontendInAnImageHoldsIsCounted(t *testing.T) {
	s, _ := running(t)
	s.held.limit = 4 << 20
	err := talked(t, s, func(talk net.Conn) error {
		go func() { _, _ = io.Copy(io.Discard, talk) }()
		if _, err := io.WriteString(talk, http2.ClientPreface); err != nil {
			return err
		}
		frames := http2.NewFramer(talk, talk)
		if err := frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			return err
		}
		fields := block(t, ":method", "POST", ":scheme", "http", ":authority", "builder", ":path", gatewaypb.LLBBridge_Ping_FullMethodName, "content-type", "application/grpc", "te", "trailers")
		for call := range uint32(maxFrontendCalls) {
			if err := frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*call + 1, BlockFragment: fields, EndHeaders: true}); err != nil {
				return err
			}
			for range 2000 {
				if err := frames.WriteData(2*call+1, false, make([]byte, 1)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	assert.Check(t, is.ErrorContains(err, "closed pipe"))
}

// filesServer counts the files that are read at once.
type filesServer struct {
	bridgeServer
	now, most atomic.Int32
}

func (f *filesServer) ReadFile(context.Context, *gatewaypb.ReadFileRequest) (*gatewaypb.ReadFileResponse, error) {
	now := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	time.Sleep(20 * time.Millisecond)
	return &gatewaypb.ReadFileResponse{Data: make([]byte, 1<<20)}, nil
}

func TestFilesOfResultsAreReadInTurns(t *testing.T) {
	files := &filesServer{}
	server := grpc.NewServer()
	defer server.Stop()
	gatewaypb.RegisterLLBBridgeServer(server, files)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	go func() { _ = server.Serve(listener) }()
	made, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	assert.NilError(t, err)
	defer made.Close()
	var reads errgroup.Group
	for range 20 {
		reads.Go(func() error {
			_, err := gatewaypb.NewLLBBridgeClient(made).ReadFile(t.Context(), &gatewaypb.ReadFileRequest{FilePath: "file"})
			return err
		})
	}
	assert.NilError(t, reads.Wait())
	assert.Check(t, files.most.Load() <= 2, "%d at once", files.most.Load())
}
