package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/sockerless/sockerless/agent/core/anybytes"
	"github.com/sockerless/sockerless/agent/core/errortext"
	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

const (
	// maxMessage bounds a request message. Stream chunks are at most 1 MiB; a
	// Start carries a whole specification.
	maxMessage = 8 << 20
	// HTTP/2: large frames and windows, since the default frame of 16 KiB costs
	// 40 % of the throughput. net/http only accepts windows below 4 MiB.
	maxFrame         = 1 << 20
	streamWindow     = 2 << 20
	connectionWindow = 4<<20 - 1

	// localWindow is that of a stream on this machine, where a larger one is no faster:
	// thousands of clients may send what no process reads.
	localWindow = 256 << 10

	// The same for clients that are other containers' agents, which may want this
	// one's memory to be full. Their connections are many: each carried one has its
	// own.
	neighbourMessage = 64<<10 + maxBulkHead
	neighbourFrame   = 64 << 10
	neighbourWindow  = 128 << 10
	neighbourHeader  = 2 << 10
)

// Variables for tests.
var (
	pingAfter   = 15 * time.Second
	pingTimeout = 15 * time.Second
)

// Resolver returns the container for a call. id is the metadata key's value,
// empty if absent.
type Resolver func(ctx context.Context, id string) (Container, error)

// NewHandler serves AgentService and the gRPC health service.
func NewHandler(resolve Resolver) http.Handler { return newHandler(resolve, maxMessage) }

// NewNeighbourHandler is NewHandler for other containers' agents. Bulk data, which
// is not collected, may come in larger messages.
func NewNeighbourHandler(resolve Resolver) http.Handler {
	return newHandler(resolve, neighbourMessage)
}

func newHandler(resolve Resolver, maxMessage int) http.Handler {
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxMessage),
		connect.WithInterceptors(failureLog{}),
		errortext.Option(),
		anybytes.Option(),
		// Nothing is compressed: the peers are on one machine, or the bytes are
		// mostly compressed already.
		connect.WithCompression("gzip", nil, nil),
	}
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(&service{resolve: resolve}, options...))
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(agentv1connect.AgentServiceName), options...))
	return countedAsMoved(withBulk(mux))
}

// perCall is roughly the garbage of a call that moved no bytes: stacks, headers
// and buffers.
const perCall = 32 << 10

// countedAsMoved counts calls like bulk transfers, so that their memory is
// returned to the machine afterwards.
func countedAsMoved(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer memory.Moved(perCall)
		next.ServeHTTP(w, r)
	})
}

// NewServer returns an HTTP server for a handler of NewHandler: HTTP/2 without
// TLS (and with it, if a TLS configuration is set), and HTTP/1 for simple
// clients' unary calls. It uses no timers: on a unix socket the kernel reports a
// peer that is gone.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          1000,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
		},
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		BaseContext: withLogger(logger),
	}
}

// WithPings makes a server on TCP detect by pings a peer that vanished, such as a
// lost machine.
func WithPings(server *http.Server) *http.Server {
	server.HTTP2.SendPingTimeout = pingAfter
	server.HTTP2.PingTimeout = pingTimeout
	return server
}

// ForLocal makes a server hold less for each call: its clients are on this machine.
// Its connections come from a Buffered listener or are plain: HoldCredit would hold
// back more than this window.
func ForLocal(server *http.Server) *http.Server {
	server.HTTP2.MaxReceiveBufferPerStream = localWindow
	return server
}

// ForNeighbours makes a server hold little for its clients, which are other
// containers' agents. Each of their connections may have so many calls.
func ForNeighbours(server *http.Server, calls int) *http.Server {
	server.MaxHeaderBytes = neighbourHeader
	server.HTTP2.MaxConcurrentStreams = calls
	server.HTTP2.MaxReadFrameSize = neighbourFrame
	server.HTTP2.MaxReceiveBufferPerConnection = neighbourWindow
	server.HTTP2.MaxReceiveBufferPerStream = neighbourWindow
	return server
}
