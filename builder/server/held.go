package server

import (
	"context"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/util/bklog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
)

// maxHeld bounds what the calls of all BuildKit clients hold besides their builds: those under way, what has come of requests,
// and answers that their clients have not read.
const maxHeld = 256 << 20

const (
	// maxHeaders bounds a call's headers.
	maxHeaders = 64 << 10
	// streamWindow bounds what a call's client sends ahead of its handler, and connectionWindow ahead of the connection's reader.
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
	// callBytes is what a call holds while it lasts.
	callBytes = 32 << 10
	// headerBytes is what a field of a call's headers, or a piece of a message, holds besides its text.
	headerBytes = 128
)

// heldBy lists calls that hold more: a session is a connection of its own, containerd reads content by the mebibyte, and each
// event of the history is a goroutine for each list.
var heldBy = map[string]int{
	controlapi.Control_Session_FullMethodName:            128 << 10,
	controlapi.Control_ListenBuildHistory_FullMethodName: 1 << 20,
	"/containerd.services.content.v1.Content/Read":       1 << 20,
}

// buildShare is what a connection may hold for each of its builds before it counts as one that holds more than others; all
// builds' shares are half of the limit at most, so that whoever has many builds still counts.
const buildShare = 128 << 10

// held counts the bytes that clients hold. Of too many the connection that has most beside its builds' shares is closed.
type held struct {
	limit int

	mu  sync.Mutex
	by  map[*connection]int
	sum int
}

// beginBuild gives a connection a build's share until the returned function is called.
func (h *held) beginBuild(by *connection) func() {
	count := func(builds int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		by.builds += builds
	}
	count(1)
	return func() { count(-1) }
}

// add counts bytes of a connection that is served.
func (h *held) add(by *connection, bytes int) {
	if surplus := h.count(by, bytes); surplus != nil {
		bklog.L.Warnf("a connection of a BuildKit client is closed: clients hold more than %d bytes, and it holds most", h.limit)
		_ = surplus.Close()
	}
}

func (h *held) count(by *connection, bytes int) (surplus *connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, isServed := h.by[by]; !isServed {
		return nil
	}
	h.by[by] += bytes
	if h.sum += bytes; h.sum <= h.limit || bytes < 0 {
		return nil
	}
	surplus = by
	builds := 0
	for each := range h.by {
		builds += each.builds
	}
	share := min(buildShare, h.limit/2/max(builds, 1))
	beyond := func(each *connection) int { return h.by[each] - each.builds*share }
	for each := range h.by {
		if beyond(each) > beyond(surplus) {
			surplus = each
		}
	}
	h.drop(surplus)
	return surplus
}

func (h *held) enter(by *connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[by] = 0
}

func (h *held) leave(by *connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(by)
}

func (h *held) drop(by *connection) {
	h.sum -= h.by[by]
	delete(h.by, by)
}

// maxSessions bounds the sessions within calls, some more than maxHeld lets be: those of a closed connection take a while to end.
const maxSessions = 2048

// boundSessions has a session wait for others' end.
func (s *Server) boundSessions(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod != controlapi.Control_Session_FullMethodName {
		return handle(server, stream)
	}
	ctx := stream.Context()
	if err := s.calledSessions.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.calledSessions.Release(1)
	return handle(server, &calledSession{ServerStream: stream})
}

// holding is what a connection's server counts.
type holding struct {
	all *held
	by  *connection
}

func (h holding) options() []grpc.ServerOption {
	codec := encoding.GetCodecV2("proto")
	return []grpc.ServerOption{
		grpc.InTapHandle(h.call), grpc.MaxHeaderListSize(maxHeaders), grpc.ForceServerCodecV2(answers{codec, h}), experimental.BufferPool(h),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connectionWindow), grpc.MaxConcurrentStreams(maxCalls),
		grpc.ChainUnaryInterceptor(readCall), grpc.ChainStreamInterceptor(readStream),
	}
}

// call counts a call until its stream ends.
func (h holding) call(ctx context.Context, info *tap.Info) (context.Context, error) {
	bytes := callBytes + heldBy[info.FullMethodName]
	for name, values := range info.Header {
		for _, value := range values {
			bytes += headerBytes + len(name) + len(value)
		}
	}
	return context.WithValue(ctx, callOfContext{}, h.by.pieces.begin(bytes)), nil
}

// Get counts what comes of requests.
func (h holding) Get(length int) *[]byte {
	made := mem.DefaultBufferPool().Get(length)
	h.all.add(h.by, cap(*made))
	return made
}

// Put is called with what has been read, sent, or given up.
func (h holding) Put(done *[]byte) {
	h.all.add(h.by, -cap(*done))
	mem.DefaultBufferPool().Put(done)
}

// answers counts messages until they are sent.
type answers struct {
	encoding.CodecV2
	holding
}

// Marshal counts a message.
func (a answers) Marshal(message any) (mem.BufferSlice, error) {
	data, err := a.CodecV2.Marshal(message)
	if err != nil || mem.IsBelowBufferPoolingThreshold(data.Len()) {
		return data, err
	}
	text := data.Materialize() // without the rest of a pool's buffer, which is up to a mebibyte
	data.Free()
	a.all.add(a.by, cap(text))
	return mem.BufferSlice{mem.NewBuffer(&text, a.holding)}, nil
}
