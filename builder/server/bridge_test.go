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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"
)

// bridgeServer is BuildKit's end of the talk with a frontend.
type bridgeServer struct {
	gatewaypb.UnimplementedLLBBridgeServer
}

func (bridgeServer) Ping(context.Context, *gatewaypb.PingRequest) (*gatewaypb.PongResponse, error) {
	return &gatewaypb.PongResponse{LLBCaps: pb.Caps.All()}, nil
}

func (bridgeServer) StatFile(context.Context, *gatewaypb.StatFileRequest) (*gatewaypb.StatFileResponse, error) {
	return &gatewaypb.StatFileResponse{}, nil
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
	if len(metadata.ValueFromIncomingContext(stream.Context(), "stalled")) > 0 {
		<-stream.Context().Done()
	}
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
type inImage struct {
	frontend.Frontend
	server gatewaypb.LLBBridgeServer
}

func (i inImage) Solve(ctx context.Context, _ frontend.FrontendLLBBridge, ex executor.Executor, _ map[string]string, _ map[string]*pb.Definition, _ string, _ *session.Manager) (*frontend.Result, error) {
	fromServer, toContainer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromContainer, toServer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	gatewaypb.RegisterLLBBridgeServer(server, i.server)
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
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, process.Stdin)
	}()
	return nil, c.run(near)
}

// talked has a frontend in an image talk.
func talked(t *testing.T, s *Server, server gatewaypb.LLBBridgeServer, run func(talk net.Conn) error) error {
	t.Helper()
	_, err := (&named{inImage{server: server}, s}).Solve(t.Context(), nil, container{run: run}, nil, nil, "", nil)
	return err
}

// bridgeOver is a client as frontends have.
func bridgeOver(t *testing.T, talk net.Conn) gatewaypb.LLBBridgeClient {
	t.Helper()
	made, err := grpc.NewClient("passthrough:container", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return talk, nil }))
	assert.NilError(t, err)
	t.Cleanup(func() { made.Close() })
	return gatewaypb.NewLLBBridgeClient(made)
}

func TestAFrontendInAnImageIsAnswered(t *testing.T) {
	s, _ := running(t)
	assert.NilError(t, talked(t, s, bridgeServer{}, func(talk net.Conn) error {
		bridge := bridgeOver(t, talk)
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
	err := talked(t, s, bridgeServer{}, func(talk net.Conn) error {
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

func TestAFrontendInAnImageFeedsAProcessMuch(t *testing.T) {
	s, _ := running(t)
	s.held.limit = 1 << 20
	assert.NilError(t, talked(t, s, bridgeServer{}, func(talk net.Conn) error {
		process, err := bridgeOver(t, talk).ExecProcess(t.Context())
		assert.NilError(t, err)
		input := &gatewaypb.ExecMessage{Input: &gatewaypb.ExecMessage_File{File: &gatewaypb.FdMessage{Data: make([]byte, 32<<10)}}}
		for range 100 {
			assert.NilError(t, process.Send(input))
			_, err := process.Recv()
			assert.NilError(t, err)
		}
		return process.CloseSend()
	}))
}

func TestInputThatAProcessDoesNotTakeWaitsAtItsFrontend(t *testing.T) {
	s, _ := running(t)
	assert.NilError(t, talked(t, s, bridgeServer{}, func(talk net.Conn) error {
		sent := make(chan struct{})
		process, err := bridgeOver(t, talk).ExecProcess(metadata.AppendToOutgoingContext(t.Context(), "stalled", "yes"))
		assert.NilError(t, err)
		input := &gatewaypb.ExecMessage{Input: &gatewaypb.ExecMessage_File{File: &gatewaypb.FdMessage{Data: make([]byte, 32<<10)}}}
		go func() {
			defer close(sent)
			for range 1024 {
				if err := process.Send(input); err != nil {
					return
				}
			}
		}()
		select {
		case <-sent:
			t.Error("32 MiB were taken")
		case <-time.After(500 * time.Millisecond):
		}
		return nil
	}))
}

// filesServer counts the files that are read at once.
type filesServer struct {
	bridgeServer
	now, most, late atomic.Int32
}

// StatFile and its like wait for the build of what is named late.
func (f *filesServer) StatFile(ctx context.Context, request *gatewaypb.StatFileRequest) (*gatewaypb.StatFileResponse, error) {
	if request.Ref == "late" {
		f.late.Add(1)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return &gatewaypb.StatFileResponse{}, nil
}

func (f *filesServer) StatFileContainer(ctx context.Context, request *gatewaypb.StatFileRequest) (*gatewaypb.StatFileResponse, error) {
	return f.StatFile(ctx, request)
}

func (f *filesServer) ReadFile(ctx context.Context, request *gatewaypb.ReadFileRequest) (*gatewaypb.ReadFileResponse, error) {
	if _, err := f.StatFile(ctx, &gatewaypb.StatFileRequest{Ref: request.Ref}); err != nil {
		return nil, err
	}
	now := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	time.Sleep(20 * time.Millisecond)
	return &gatewaypb.ReadFileResponse{Data: make([]byte, 1<<20)}, nil
}

func (f *filesServer) ReadFileContainer(ctx context.Context, request *gatewaypb.ReadFileRequest) (*gatewaypb.ReadFileResponse, error) {
	return f.ReadFile(ctx, request)
}

// filesOver serves files to a client of BuildKit.
func filesOver(t *testing.T, files *filesServer) gatewaypb.LLBBridgeClient {
	t.Helper()
	server := grpc.NewServer()
	t.Cleanup(server.Stop)
	gatewaypb.RegisterLLBBridgeServer(server, files)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	go func() { _ = server.Serve(listener) }()
	made, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	assert.NilError(t, err)
	t.Cleanup(func() { made.Close() })
	return gatewaypb.NewLLBBridgeClient(made)
}

// readTogether reads 20 files, and returns how many were read at once.
func readTogether(t *testing.T, bridge gatewaypb.LLBBridgeClient, files *filesServer) int32 {
	t.Helper()
	var reads errgroup.Group
	for range 20 {
		reads.Go(func() error {
			_, err := bridge.ReadFile(t.Context(), &gatewaypb.ReadFileRequest{FilePath: "file"})
			return err
		})
	}
	assert.NilError(t, reads.Wait())
	return files.most.Load()
}

func TestFilesOfResultsAreReadInTurns(t *testing.T) {
	files := &filesServer{}
	most := readTogether(t, filesOver(t, files), files)
	assert.Check(t, most <= 2, "%d at once", most)
}

func TestAFrontendInAnImageReadsOneFileAtATime(t *testing.T) {
	s, _ := running(t)
	files := &filesServer{}
	assert.NilError(t, talked(t, s, files, func(talk net.Conn) error {
		assert.Equal(t, readTogether(t, bridgeOver(t, talk), files), int32(1))
		return nil
	}))
}

// readBesideLate reads a file while others wait for what has theirs.
func readBesideLate(t *testing.T, bridge gatewaypb.LLBBridgeClient, late *atomic.Int32) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting errgroup.Group
	for _, read := range []func(context.Context, *gatewaypb.ReadFileRequest, ...grpc.CallOption) (*gatewaypb.ReadFileResponse, error){
		bridge.ReadFile, bridge.ReadFile, bridge.ReadFileContainer, bridge.ReadFileContainer,
	} {
		waiting.Go(func() error {
			_, err := read(ctx, &gatewaypb.ReadFileRequest{Ref: "late", FilePath: "file"})
			return err
		})
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if count := late.Load(); count < 4 {
			return poll.Continue("%d wait", count)
		}
		return poll.Success()
	})
	limited, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	_, err := bridge.ReadFile(limited, &gatewaypb.ReadFileRequest{FilePath: "file"})
	assert.NilError(t, err)
	cancel()
	assert.Equal(t, status.Code(waiting.Wait()), codes.Canceled)
}

func TestFilesAreReadWhileOthersWaitForWhatHasTheirs(t *testing.T) {
	files := &filesServer{}
	readBesideLate(t, filesOver(t, files), &files.late)
}

func TestAFrontendInAnImageReadsFilesWhileOthersOfItsAreBuilt(t *testing.T) {
	s, _ := running(t)
	files := &filesServer{}
	assert.NilError(t, talked(t, s, files, func(talk net.Conn) error {
		readBesideLate(t, bridgeOver(t, talk), &files.late)
		return nil
	}))
}
