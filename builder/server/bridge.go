package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/sockerless/sockerless/builder/worker"
)

// BuildKit serves the calls of a frontend in an image itself, and recovers nothing there.
func init() {
	bridge := &gatewaypb.LLBBridge_ServiceDesc
	for at := range bridge.Methods {
		handle := bridge.Methods[at].Handler
		bridge.Methods[at].Handler = func(server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (answer any, err error) {
			defer worker.Recovered(&err)
			return handle(server, ctx, decode, func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				bounded := func(ctx context.Context, request any) (any, error) { return boundRead(ctx, request, info, handle) }
				if intercept == nil {
					return bounded(ctx, request)
				}
				return intercept(ctx, request, info, bounded)
			})
		}
	}
}

// reading bounds the files of results that are read at once, of up to 16 MiB each: they are counted once they are answers.
var reading = semaphore.NewWeighted(2)

// boundRead reads files of all builds in turns, and one of a client at a time, once there is the result that has them.
func boundRead(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	read, ok := request.(*gatewaypb.ReadFileRequest)
	if !ok {
		return handle(ctx, request)
	}
	if info.FullMethod == gatewaypb.LLBBridge_ReadFile_FullMethodName {
		if _, err := info.Server.(gatewaypb.LLBBridgeServer).Evaluate(ctx, &gatewaypb.EvaluateRequest{Ref: read.Ref}); err != nil {
			return nil, err
		}
	}
	turns := []*semaphore.Weighted{reading}
	if by := connectionOf(ctx); by != nil {
		turns = []*semaphore.Weighted{by.listing, reading}
	}
	for _, turn := range turns {
		if err := turn.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		defer turn.Release(1)
	}
	return handle(ctx, request)
}

// talking runs a frontend in an image, whose calls are bounded as those of BuildKit's clients: BuildKit's own server, which gets them
// from a client here, reads requests ahead and keeps answers without a bound.
type talking struct {
	executor.Executor
	server *Server
}

// maxFrontendCalls bounds a frontend's calls at a time, which BuildKit's server answers before anything is counted.
const maxFrontendCalls = 64

func (t talking) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	if process.Stderr != os.Stderr { // not the frontend, but what it wants to be run
		return t.Executor.Run(ctx, id, root, mounts, process, started)
	}
	near, far := net.Pipe()
	defer far.Close()
	stdin, stdout := process.Stdin, process.Stdout
	defer stdin.Close()
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, stdin)
	}()
	go func() { _, _ = io.Copy(stdout, far) }()
	client, err := grpc.NewClient("passthrough:bridge", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return near, nil }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(verbatim{}), grpc.MaxCallRecvMsgSize(maxBridgeMessage)))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	process.Stdin, process.Stdout = theirs, theirs
	go t.server.serveCalls(ours, ours, func(counting holding) *grpc.Server {
		passed := grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return counting.pass(stream, client) })
		return grpc.NewServer(append(counting.options(), grpc.ForceServerCodecV2(answers{verbatim{}, counting}),
			grpc.MaxConcurrentStreams(maxFrontendCalls), grpc.MaxRecvMsgSize(maxBridgeMessage), passed)...)
	})
	return t.Executor.Run(ctx, id, root, mounts, process, started)
}

// maxBridgeMessage bounds a message of a frontend, and one to it, as BuildKit does.
const maxBridgeMessage = 16 << 20

// passedBytes is what BuildKit's server keeps of a message beside its text.
const passedBytes = 16 << 10

// pass passes a frontend's call on. Calls have one request, but those that run a process, whose messages are counted until it ends.
func (h holding) pass(stream grpc.ServerStream, client *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	method, _ := grpc.MethodFromServerStream(stream)
	if method == gatewaypb.LLBBridge_ReadFile_FullMethodName || method == gatewaypb.LLBBridge_ReadFileContainer_FullMethodName {
		// BuildKit's server keeps the answer until it is here.
		if err := h.by.listing.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		defer h.by.listing.Release(1)
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	to, err := client.NewStream(metadata.NewOutgoingContext(ctx, headers), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var request mem.BufferSlice
			err := stream.RecvMsg(&request)
			if err == nil {
				bytes := request.Len() + passedBytes
				h.all.add(h.by, bytes)
				context.AfterFunc(ctx, func() { h.all.add(h.by, -bytes) })
				err = to.SendMsg(request)
			}
			if err != nil || method != gatewaypb.LLBBridge_ExecProcess_FullMethodName {
				_ = to.CloseSend()
				return
			}
		}
	}()
	for {
		var answer mem.BufferSlice
		if err := to.RecvMsg(&answer); err != nil {
			stream.SetTrailer(to.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	}
}

// verbatim is a codec of messages as they are.
type verbatim struct{}

func (verbatim) Marshal(message any) (mem.BufferSlice, error) {
	return message.(mem.BufferSlice), nil
}

func (verbatim) Unmarshal(text mem.BufferSlice, into any) error {
	*into.(*mem.BufferSlice) = mem.BufferSlice{mem.SliceBuffer(text.Materialize())}
	return nil
}

func (verbatim) Name() string { return "proto" }
