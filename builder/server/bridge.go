package server

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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
	for at := range bridge.Streams {
		handle := bridge.Streams[at].Handler
		bridge.Streams[at].Handler = func(server any, stream grpc.ServerStream) error { return runProcess(server, stream, handle) }
	}
}

// reading bounds the files of results that are read at once, of up to 16 MiB each: they are counted once they are answers.
var reading = semaphore.NewWeighted(2)

// boundRead reads files of all builds in turns, and one of a client at a time, once the file system that has them is there: to build
// and to fetch it takes any time.
func boundRead(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	read, ok := request.(*gatewaypb.ReadFileRequest)
	if !ok {
		return handle(ctx, request)
	}
	bridge := info.Server.(gatewaypb.LLBBridgeServer)
	stat := bridge.StatFile
	if info.FullMethod == gatewaypb.LLBBridge_ReadFileContainer_FullMethodName {
		stat = bridge.StatFileContainer
	}
	if _, err := stat(ctx, rootOf(read)); err != nil {
		return nil, err
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

// rootOf asks for the root of the file system that has a file.
func rootOf(read *gatewaypb.ReadFileRequest) *gatewaypb.StatFileRequest {
	return &gatewaypb.StatFileRequest{Ref: read.Ref, Path: "/", MountIndex: read.MountIndex}
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

// pass passes a frontend's call on. Calls have one request, but those that run a process, which takes its messages one by one.
func (h holding) pass(stream grpc.ServerStream, client *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	method, _ := grpc.MethodFromServerStream(stream)
	request, release, err := h.receive(ctx, stream)
	if err != nil {
		return err
	}
	if method == gatewaypb.LLBBridge_ReadFile_FullMethodName || method == gatewaypb.LLBBridge_ReadFileContainer_FullMethodName {
		if err := statRoot(ctx, client, method, request); err != nil {
			return err
		}
		// BuildKit's server keeps the answer until it is here.
		if err := h.by.listing.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		defer h.by.listing.Release(1)
	}
	id, taken := rand.Text(), make(chan struct{}, 1)
	processes.Store(id, taken)
	defer processes.Delete(id)
	headers, _ := metadata.FromIncomingContext(ctx)
	headers.Set(processHeader, id)
	to, err := client.NewStream(metadata.NewOutgoingContext(ctx, headers), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		defer to.CloseSend()
		for to.SendMsg(request) == nil && method == gatewaypb.LLBBridge_ExecProcess_FullMethodName {
			select {
			case <-taken:
				release()
			case <-ctx.Done():
				return
			}
			if request, release, err = h.receive(ctx, stream); err != nil {
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

// receive counts a message until it is released, or the call ends.
func (h holding) receive(ctx context.Context, stream grpc.ServerStream) (message mem.BufferSlice, release func(), err error) {
	if err := stream.RecvMsg(&message); err != nil {
		return nil, nil, err
	}
	bytes := message.Len() + passedBytes
	h.all.add(h.by, bytes)
	uncount := func() { h.all.add(h.by, -bytes) }
	isCounted := context.AfterFunc(ctx, uncount)
	return message, func() {
		if isCounted() {
			uncount()
		}
	}, nil
}

// statRoot waits for the file system that has a file which a request reads.
func statRoot(ctx context.Context, client *grpc.ClientConn, method string, request mem.BufferSlice) error {
	var read gatewaypb.ReadFileRequest
	if err := proto.Unmarshal(request.Materialize(), &read); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	bridge := gatewaypb.NewLLBBridgeClient(client)
	stat := bridge.StatFile
	if method == gatewaypb.LLBBridge_ReadFileContainer_FullMethodName {
		stat = bridge.StatFileContainer
	}
	_, err := stat(ctx, rootOf(&read), grpc.ForceCodecV2(encoding.GetCodecV2("proto")))
	return err
}

// processHeader names a call by which a frontend in an image runs a process. BuildKit's server reads the call's messages ahead
// without a bound, whether the process takes them or not: a further one is passed on once the last one was taken.
const processHeader = "sockerless-process"

// processes has by their names the channels that tell of each message that was taken.
var processes sync.Map

type processStream struct {
	grpc.ServerStream
	taken chan<- struct{}
	// There was a message.
	isRead bool
}

func runProcess(server any, stream grpc.ServerStream, handle grpc.StreamHandler) error {
	if names := metadata.ValueFromIncomingContext(stream.Context(), processHeader); len(names) == 1 {
		if taken, ok := processes.Load(names[0]); ok {
			stream = &processStream{ServerStream: stream, taken: taken.(chan struct{})}
		}
	}
	return handle(server, stream)
}

// RecvMsg is called once the last message was taken.
func (s *processStream) RecvMsg(into any) error {
	if s.isRead {
		s.taken <- struct{}{}
	}
	s.isRead = true
	return s.ServerStream.RecvMsg(into)
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
