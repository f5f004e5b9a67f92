package containerinit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/version"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// container implements AgentService's calls. It also tracks what keeps the agent
// from leaving: starts and watches.
type container struct {
	server.Core
	launcher *launcher
	settings *settings
	log      *log.Writer
	platform *platformOutput
	names    *nameService
	partners *partnership
	stock    *stock
	logger   *slog.Logger
	// standings are in whose name it serves.
	standings standings
	// callAs changes the name in which it calls; nil: it is dialled.
	callAs  func(containerID string, certificate tls.Certificate, token string)
	stopped chan struct{} // closed at the platform's first stop signal

	mu         sync.Mutex
	hello      *agentv1.HelloResponse
	unclaimed  bool // prepared, and no container's yet
	waits      int  // for a first start: that for a container's follows that for a claim
	starting   int  // Start calls under way
	generation uint64
	terms      terms     // of the last accepted start
	begun      time.Time // time of the last start that reset the changes
	watchers   int
	watched    bool // somebody has watched since the main process ended
	leaving    bool
	released   bool // the backend needs nothing more
	// The platform asked to stop while the main process ran.
	platformStop bool
	sealed       *agentv1.DescribeResponse // of the last start, or what has replaced it
	changed      change.Signal             // of any of these
}

var (
	_ server.Container = (*container)(nil)
	_ server.Sealed    = (*container)(nil)
)

func newContainer(settings *settings, launcher *launcher, sessions *session.Sessions, log *log.Writer, names *nameService, partners *partnership, stock *stock, limitations []string, logger *slog.Logger) *container {
	return &container{
		Core:      server.Core{Sessions: sessions},
		launcher:  launcher,
		settings:  settings,
		log:       log,
		names:     names,
		partners:  partners,
		stock:     stock,
		platform:  &platformOutput{out: os.Stdout},
		logger:    logger,
		stopped:   make(chan struct{}),
		unclaimed: settings.prepared,
		hello: &agentv1.HelloResponse{
			Version:     version.Version,
			Mode:        agentv1.Mode_MODE_INIT,
			ContainerId: settings.containerID,
			Features:    features,
			Limitations: limitations,
			PartnerKey:  partners.publicKey,
		},
		terms: termsOf(settings, nil),
	}
}

// features are what this agent can do and an earlier version cannot.
var features = []string{"start-settings", "log-records", "release", "tunnel", "partners", "seccomp", "prove", "changes-anew", "put-layer", "secrets", "peers", "called-partners", "sockets", "claim"}

// Hello identifies the agent and its limitations.
func (c *container) Hello(context.Context) (*agentv1.HelloResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello, nil
}

// Start starts the main process, for the first time or again.
func (c *container) Start(ctx context.Context, request *agentv1.StartRequest) (*agentv1.StartResponse, error) {
	if err := checkStart(request); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.leaving {
		c.mu.Unlock()
		return nil, server.ErrLeaving
	}
	if c.unclaimed {
		c.mu.Unlock()
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this agent is no container's yet"))
	}
	c.starting++
	c.mu.Unlock()
	type answer struct {
		response *agentv1.StartResponse
		err      error
	}
	answered := make(chan answer, 1)
	go func() { // a start continues without its caller, and its outcome must be recorded
		response, err := c.Core.Start(session.Outliving(ctx), request)
		c.started(request, err)
		answered <- answer{c.fromBegin(request, response), err}
	}()
	select {
	case a := <-answered:
		return a.response, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fromBegin dates a start that resets the changes from before its process
// existed: all of the log since then is its own.
func (c *container) fromBegin(request *agentv1.StartRequest, response *agentv1.StartResponse) *agentv1.StartResponse {
	if !request.ChangesAnew || response.GetStarted() == nil {
		return response
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	own := proto.CloneOf(response)
	own.GetStarted().StartedAt = timestamppb.New(c.begun)
	return own
}

// started records the outcome of a Start.
func (c *container) started(request *agentv1.StartRequest, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starting--
	if err == nil && (c.sealed == nil || request.Generation != c.generation) {
		c.generation = request.Generation
		c.sealed = &agentv1.DescribeResponse{Specification: request.Specification, Seal: request.Seal}
	}
	c.changed.Notify()
}

// prepare prepares the container for a run, before its main process is launched.
func (c *container) prepare(request *agentv1.StartRequest) error {
	c.mu.Lock()
	c.terms = termsOf(c.settings, request)
	c.mu.Unlock()
	if err := preparationFailure(); err != nil {
		return err
	}
	if err := c.stock.wait(context.Background()); err != nil {
		return err
	}
	if request.ChangesAnew {
		if err := c.stock.takeAnew(); err != nil {
			return fmt.Errorf("list the files that the container has: %w", err)
		}
		c.mu.Lock()
		c.begun = time.Now()
		c.mu.Unlock()
	}
	if err := c.stock.addVolumes(request.VolumeDirectories); err != nil {
		return err
	}
	c.partners.peers.begin()
	if err := c.names.prepare(request); err != nil {
		return err
	}
	if err := c.stock.addSecrets(request.Secrets); err != nil {
		return err
	}
	copied := request.Tee != agentv1.Tee_TEE_NONE
	if copied || len(request.ExitKey) > 0 {
		run := c.Sessions.Attach(&agentv1.OpenAttach{Stdout: copied, Stderr: copied, Stream: true})
		c.platform.follow(run, func(exit *agentv1.ExitStatus) string { return c.exitLineOf(request, exit) })
	}
	return nil
}

// exitLineOf is the log line of a run's end; empty: the backend wants none.
func (c *container) exitLineOf(request *agentv1.StartRequest, exit *agentv1.ExitStatus) string {
	if len(request.ExitKey) == 0 {
		return ""
	}
	whole := proto.CloneOf(exit) // shared with others
	whole.PlatformStop = c.stoppedByPlatform()
	return exitLine(request.ExitKey, request.Generation, whole)
}

// Describe returns the data of the last start.
func (c *container) Describe(context.Context) (*agentv1.DescribeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the container was not started by this agent"))
	}
	return c.sealed, nil
}

// Reseal replaces the data of the last start.
func (c *container) Reseal(_ context.Context, request *agentv1.ResealRequest) (*agentv1.ResealResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed == nil || request.Generation != c.generation {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the container was started anew, or never"))
	}
	c.sealed = &agentv1.DescribeResponse{Specification: request.Specification, Seal: request.Seal}
	return &agentv1.ResealResponse{}, nil
}

// Watch counts its watchers: by leaving they signal that they need nothing more.
func (c *container) Watch(ctx context.Context) (server.Watcher, error) {
	watcher, err := c.Core.Watch(ctx)
	if err != nil {
		return nil, err
	}
	c.countWatcher(1)
	return &countedWatcher{Watcher: watcher, container: c, left: sync.OnceFunc(func() { c.countWatcher(-1) })}, nil
}

func (c *container) countWatcher(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers += by
	c.watched = c.watched || by > 0
	c.changed.Notify()
}

type countedWatcher struct {
	server.Watcher
	container *container
	left      func()
}

// Next adds to an exit whether the platform caused it. Nothing is started after
// the platform's stop signal, so any later exit is its doing.
func (w *countedWatcher) Next(ctx context.Context) (*agentv1.WatchResponse, error) {
	response, err := w.Watcher.Next(ctx)
	if err != nil || !w.container.stoppedByPlatform() {
		return response, err
	}
	own := proto.CloneOf(response) // shared with other watchers
	if exit := own.GetExited(); exit != nil {
		exit.PlatformStop = true
	}
	if exit := own.GetState().GetExit(); exit != nil {
		exit.PlatformStop = true
	}
	return own, nil
}

// stoppedByPlatform reports whether the platform has ended the main process.
func (c *container) stoppedByPlatform() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.platformStop
}

// Close ends the watch.
func (w *countedWatcher) Close() {
	w.Watcher.Close()
	w.left()
}

// Logs reads the recorded output.
func (c *container) Logs(_ context.Context, options log.ReadOptions) (*log.Reader, error) {
	return c.log.Reader(options)
}
