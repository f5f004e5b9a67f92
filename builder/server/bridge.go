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
	if _, err := stat(ctx, &gatewaypb.StatFileRequest{Ref: read.Ref, Path: "/", MountIndex: read.MountIndex}); err != nil {
		return nil, err
	}
	by, answered := connectionOf(ctx), ctx
	if call := passedOf(ctx); call != nil {
		// BuildKit's server keeps the answer until it has been passed on.
		by, answered = call.by, call.ctx
	}
	if by != nil {
		if err := by.listing.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		context.AfterFunc(answered, func() { by.listing.Release(1) })
	}
	if err := reading.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	defer reading.Release(1)
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

// pass passes a frontend's call on. Calls have one request, but those that run a process, which takes its messages one by one.
func (h holding) pass(stream grpc.ServerStream, client *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	method, _ := grpc.MethodFromServerStream(stream)
	request, release, err := h.receive(ctx, stream)
	if err != nil {
		return err
	}
	name, call := rand.Text(), &passed{h.by, ctx, make(chan struct{}, 1)}
	calls.Store(name, call)
	defer calls.Delete(name)
	headers, _ := metadata.FromIncomingContext(ctx)
	headers.Set(passedHeader, name)
	to, err := client.NewStream(metadata.NewOutgoingContext(ctx, headers), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		defer to.CloseSend()
		for to.SendMsg(request) == nil && method == gatewaypb.LLBBridge_ExecProcess_FullMethodName {
			select {
			case <-call.taken:
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

// passed is a call that is passed on.
type passed struct {
	by *connection
	// Ends once its answer has been passed on, too.
	ctx context.Context
	// Gets a value for each message that a process has taken: BuildKit's server reads these ahead without a bound, and a further one
	// is passed on once the last one was taken.
	taken chan struct{}
}

// calls has calls that are passed on by the names that they have in a header.
var calls sync.Map

const passedHeader = "sockerless-call"

// passedOf returns the call that is passed on; nil for others.
func passedOf(ctx context.Context) *passed {
	for _, name := range metadata.ValueFromIncomingContext(ctx, passedHeader) {
		if call, ok := calls.Load(name); ok {
			return call.(*passed)
		}
	}
	return nil
}

// processStream is that of a process which a frontend in an image runs.
type processStream struct {
	grpc.ServerStream
	call *passed
	// There was a message.
	isRead bool
}

func runProcess(server any, stream grpc.ServerStream, handle grpc.StreamHandler) error {
	if call := passedOf(stream.Context()); call != nil {
		stream = &processStream{ServerStream: stream, call: call}
	}
	return handle(server, stream)
}

// RecvMsg is called once the last message was taken.
func (s *processStream) RecvMsg(into any) error {
	if s.isRead {
		s.call.taken <- struct{}{}
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
