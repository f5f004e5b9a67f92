// Package server serves builds on a unix socket: BuildKit's control API and sessions as the Docker API hijacks them,
// and Docker's own build endpoints. The frontend forwards these requests unchanged.
package server

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/cache/remotecache"
	inlinecache "github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/throttle"
	bkworker "github.com/moby/buildkit/worker"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/sockerless/sockerless/builder/worker"
)

// Server is BuildKit's controller behind HTTP.
type Server struct {
	worker     *worker.Worker
	controller *control.Controller
	cache      solver.CacheManager
	// Removes the keys of removed states, as often as BuildKit does.
	releaseKeys func()
	// Prunes the cache to its size. Builds that end during one share one more.
	keepToSize func()
	sessions   *session.Manager
	// Options of each client's gRPC server, beside those that count what it holds.
	options []grpc.ServerOption
	held    held
	scratch string
	// Ends when the server closes.
	closing context.Context
	close   context.CancelFunc

	mu sync.Mutex
	// Number of running builds.
	building int
	// Running builds that their clients may cancel.
	builds map[*namedBuild]struct{}

	uploads uploads
	listing *semaphore.Weighted
	// As listing, for BuildKit's clients.
	calledListing  *semaphore.Weighted
	calledSessions *semaphore.Weighted
	memory         *memory
	counts         *counts // nil: not counted
	history        history
	// Lists of the history.
	listings listings

	owners       owners
	sessionNames sessionNames
	// Counts connections of BuildKit's clients.
	clients sync.WaitGroup
}

// namedBuild is a running build with its client's ID for it.
type namedBuild struct {
	id     string
	cancel context.CancelFunc
}

// New returns a server with its caches in directory, whose builds may together use memoryBytes; 0: unlimited. It counts
// builds if it is measured.
func New(ctx context.Context, w *worker.Worker, directory string, memoryBytes int64, measured bool) (*Server, error) {
	var counting *counts
	var meters metric.MeterProvider
	if measured {
		counting = newCounts()
		meters = counting.provider
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	workers := &bkworker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	historyDB, err := boltutil.Open(filepath.Join(directory, "history.db"), 0o600, worker.Unsynced)
	if err != nil {
		return nil, err
	}
	s := &Server{
		worker: w, sessions: sessions, builds: map[*namedBuild]struct{}{},
		scratch: filepath.Join(directory, "scratch"), listing: semaphore.NewWeighted(1), memory: newMemory(memoryBytes), counts: counting,
		calledListing: semaphore.NewWeighted(1), calledSessions: semaphore.NewWeighted(maxSessions),
		held: held{limit: maxHeld, by: map[*connection]int{}}, listings: listings{patience: maxUnread},
		history: history{historyDB, w.LeaseManager().WithNamespace(w.LeaseManager().Namespace() + "_history"), maxHistoryBytes},
	}
	s.releaseKeys = throttle.After(5*time.Minute, func() {
		worker.Warn("remove the keys of removed states", s.cache.ReleaseUnreferenced(context.Background()))
	})
	s.keepToSize = throttle.After(0, s.pruneToSize)
	if err := s.boundHistory(ctx); err != nil {
		return nil, err
	}
	keys, err := bboltcachestorage.NewStore(filepath.Join(directory, "keys.db"))
	if err != nil {
		return nil, err
	}
	links := rate.NewLimiter(linkRate, linkBurst)
	cache := solver.NewCacheManager(ctx, "local", newBoundedLinks(keys, links), bkworker.NewCacheResultStorage(workers))
	dockerfile := forwarder.NewGatewayForwarder(workers.Infos(), buildBounded)
	containers, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	imported := &sessionImports{shared: links}
	controller, err := control.NewController(control.Opt{
		SessionManager: sessions, WorkerController: workers, HistoryDB: historyDB, CacheStore: keys,
		LeaseManager: w.LeaseManager(), ContentStore: w.ContentStore(), GarbageCollect: w.GarbageCollect,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": &named{dockerfile, s}, "gateway.v0": &named{&frontends{dockerfile, containers}, s},
		},
		CacheManager: cache,
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"inline": inlinecache.ResolveCacheExporterFunc(), "local": recovering(localcache.ResolveCacheExporterFunc(sessions)),
			"registry": recovering(registrycache.ResolveCacheExporterFunc(sessions, w.Hosts(false))),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"local":    behind(imported, boundedImport(directoryCache(sessions), s.memory, importLimit, layerPatience)),
			"registry": behind(imported, boundedImport(registryCache(sessions, w.Hosts), s.memory, importLimit, layerPatience)),
		},
		Entitlements: []string{"network.host"}, MeterProvider: meters,
	})
	if err != nil {
		return nil, err
	}
	s.controller, s.cache = controller, cache
	s.options = []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(recoverCall, s.ownBuilds, s.countBuilds, s.boundUsage, grpcerrors.UnaryServerInterceptor),
		grpc.ChainStreamInterceptor(recoverStream, s.ownStreams, s.boundListings, s.boundSessions, grpcerrors.StreamServerInterceptor),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	return s, nil
}

// recoverCall converts a call's panics to errors, which gRPC does not recover.
func recoverCall(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	defer worker.Recovered(&err)
	return handle(ctx, request)
}

func recoverStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer worker.Recovered(&err)
	return handle(server, stream)
}

// countBuilds counts the builds of BuildKit's clients, one for each Solve call.
func (s *Server) countBuilds(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if warning, ok := request.(*gatewaypb.WarnRequest); ok {
		if by := connectionOf(ctx); by != nil && !by.warnings.Fit(warning.SizeVT()) {
			return &gatewaypb.WarnResponse{}, nil
		}
	}
	if info.FullMethod != controlapi.Control_Solve_FullMethodName {
		return handle(ctx, request)
	}
	if by := connectionOf(ctx); by != nil {
		defer s.held.beginBuild(by)()
	}
	return withinMemory(ctx, s.memory, func(ctx context.Context) (any, error) {
		if solve, ok := request.(*controlapi.SolveRequest); ok {
			ctx = worker.ForBuilds(ctx, session.NewGroup(solve.Session)) // for the connections of exports
			// BuildKit has released its containers by then.
			defer s.worker.WaitForRemovals(ctx, solve.Session)
		}
		ctx, end := s.beginBuild(ctx)
		defer end()
		return handle(ctx, request)
	})
}

// beginBuild returns the context of a build and counts it until the returned function is called. A build's end also
// releases what BuildKit has forgotten of it, and the last running one's all that is left; that one then prunes the
// cache: BuildKit checks its size at most once a minute, and only after builds.
func (s *Server) beginBuild(ctx context.Context) (context.Context, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.building++
	ctx, endBuild := s.worker.BeginBuild(ctx)
	return ctx, func() {
		worker.Warn("remove exported layers", endBuild())
		worker.Warn("bound the history of builds", s.boundHistory(context.Background()))
		s.mu.Lock()
		s.building--
		if s.building > 0 {
			s.mu.Unlock()
			// Forgotten references are released once they are collected.
			go runtime.GC()
			return
		}
		letGo := s.worker.TakeReferences()
		s.mu.Unlock()
		worker.Warn("let go of what the last build has left", letGo())
		s.keepToSize()
	}
}

// pruneToSize removes from the cache what exceeds its size, and the keys of that.
func (s *Server) pruneToSize() {
	removed := make(chan client.UsageInfo)
	go func() {
		defer close(removed)
		worker.Warn("keep to the cache's size", s.worker.Prune(context.Background(), removed, s.worker.GCPolicy()...))
	}()
	count := 0
	for range removed {
		count++
	}
	if count > 0 {
		s.releaseKeys()
	}
}

// Close closes the connections of BuildKit's clients and the caches.
func (s *Server) Close() error {
	s.close()
	s.clients.Wait()
	return s.controller.Close()
}

// frontends serves `# syntax=docker/dockerfile:…` by the linked-in frontend, and runs pinned versions and other
// frontends as containers.
type frontends struct{ builtIn, containers frontend.Frontend }

func (f *frontends) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, ex executor.Executor, options map[string]string, inputs map[string]*pb.Definition, sessionID string, sessions *session.Manager) (*frontend.Result, error) {
	name := strings.TrimPrefix(options["source"], "docker.io/")
	repository, _, _ := strings.Cut(name, ":")
	solve := f.containers.Solve
	if !strings.Contains(name, "@") && (repository == "docker/dockerfile" || repository == "docker/dockerfile-upstream") {
		solve = f.builtIn.Solve
	}
	return solve(ctx, bridge, ex, options, inputs, sessionID, sessions)
}

// named is a frontend that gets the IDs of sessions in place of their names, and whose solves and calls are bounded.
type named struct {
	frontend.Frontend
	server *Server
}

func (n *named) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, ex executor.Executor, options map[string]string, inputs map[string]*pb.Definition, sessionID string, sessions *session.Manager) (*frontend.Result, error) {
	return n.Frontend.Solve(ctx, worker.BoundedBridge{FrontendLLBBridge: bridge, Warnings: worker.WarningsOf(ctx)}, talking{ex, n.server}, n.server.sessionNames.resolve(options, sessionID), inputs, sessionID, sessions)
}

// ServeHTTP routes requests; their paths have no API version.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /grpc":
		s.serveControl(w)
	case "POST /session":
		if err := s.sessions.HandleHTTPRequest(r.Context(), sessionWriter{w}, r); err != nil {
			// No effect once the connection is hijacked.
			w.Header().Set("Connection", "close")
			writeError(w, http.StatusBadRequest, err.Error())
		}
	case "POST /build":
		s.build(w, r)
	case "POST /build/cancel":
		s.cancel(w, r)
	case "POST /build/prune":
		s.prune(w, r)
	case "GET /build/counts":
		s.serveCounts(w, r)
	case "GET /build/usage":
		s.usage(w, r)
	default:
		writeError(w, http.StatusNotFound, "page not found")
	}
}

// OutOfMemory ends, with the builds' error, once they exceed their memory. The memory stays in use: the code that takes
// it may not check its context, and only ends with this process.
func (s *Server) OutOfMemory() context.Context { return s.memory.exceeded }

// StopServingBy sets what stops new connections before builds are told that they exceed their memory. It is for a server
// that does not serve yet.
func (s *Server) StopServingBy(stop func()) { s.memory.stopServing = stop }

// WaitForClients waits until BuildKit's clients have received their builds' errors and left.
func (s *Server) WaitForClients(ctx context.Context) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		s.clients.Wait()
	}()
	select {
	case <-left:
	case <-ctx.Done():
	}
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"message": maskSecrets(message)})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	// A client that has left needs no response.
	_ = encoder.Encode(body)
}
