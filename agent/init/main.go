// Package containerinit is the agent inside a cloud container: its entrypoint and
// PID 1. It runs the user's process when the backend asks for it, serves
// AgentService over mutual TLS, reaps, forwards the stop signal, and exits with
// the user's process's exit code. It needs no file but its own binary, and no
// writable place.
package containerinit

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/descriptors"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/init/callback"
)

// Exit codes of an agent that failed, or could not finish.
const (
	exitUsage      = 2
	exitFailed     = 125 // as docker run's own failures
	exitUnfinished = 255 // as the backend reports a run whose success is unknown
)

// Main is `sockerless-agent init`. It returns the process's exit code: the
// user's, or one of those above.
func Main(arguments []string) int {
	logger := slog.New(slog.NewTextHandler(markedWriter{os.Stderr, agentMark}, nil))
	settings, err := parseSettings(arguments, os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent init:", err)
		return exitUsage
	}
	code, err := run(settings, logger)
	if err != nil {
		logger.Error("the agent failed", "error", err)
		return exitFailed
	}
	return code
}

// run serves one container to its end.
func run(settings *settings, logger *slog.Logger) (exitCode int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, stopSignals(settings.stopSignal)...) // before anything takes time: none is lost
	// A closed stderr must not end the agent.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	if err := harden(); err != nil {
		return 0, err
	}
	powers, err := ownPowers()
	if err != nil {
		return 0, err
	}
	markContainer(powers)
	stock := beginInventory(settings, powers, logger)
	record, place, err := openLog(settings, logger)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := record.Close(); err != nil {
			logger.Error("output is not recorded", "error", err)
		}
	}()
	launcher := newLauncher(powers, children.Start(), os.Environ())
	sessions := session.New(session.MainProcess{}, session.Options{
		Runtime:     launcher,
		Log:         record,
		Restartable: true,
		Logger:      logger,
	})
	launcher.oom = sessions.OutOfMemory
	partners, err := newPartnership(settings, logger)
	if err != nil {
		return 0, err
	}
	names := newNameService(powers, partners.peers.ask, logger)
	self := newContainer(settings, launcher, sessions, record, names, partners, stock,
		slices.Concat(powers.limitations(), place.limitations(), names.limitations()), logger)
	launcher.prepare = self.prepare
	launcher.clear = func() {
		if err := stock.removeSecrets(); err != nil {
			logger.Error("a secret is left among the container's files", "error", err)
		}
	}

	gate := server.NewGate()
	webs, drain, served, err := serve(settings, self, gate, logger)
	if err != nil {
		return 0, err
	}
	logger.Info("the agent is ready", "listen", settings.listen, "container", settings.containerID)
	exitCode = self.stay(signals, launcher, logger)
	self.partners.peers.Close()
	self.partners.Close()
	leave(self, gate, webs, drain, logger)
	if err := <-served; err != nil && self.Sessions.State().Started == nil {
		return 0, err
	}
	return exitCode, nil
}

// harden closes descriptors that the platform left open, keeps other processes of
// the container, unless they may trace everything, from reading the agent's
// memory, and makes the agent the parent of orphans if it is not PID 1.
func harden() error {
	if err := descriptors.CloseInherited(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the agent's memory private: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	return nil
}

// serve starts to serve admitted clients: those with control by the first server,
// partners and peers by the others. drain waits, after they are closed, until
// everything written has arrived.
func serve(settings *settings, self *container, gate *server.Gate, logger *slog.Logger) (webs []*http.Server, drain func(ctx context.Context, isPatient func() bool), served <-chan error, err error) {
	first, err := newStanding(settings.containerID, settings.pin)
	if err != nil {
		return nil, nil, nil, err
	}
	self.standings.Store(first)
	listeners, drain, err := listen(settings, self, first.certificate, logger)
	if err != nil {
		return nil, nil, nil, err
	}
	web, neighbours, narrow := newServers(settings, self, gate, logger)
	if settings.callback != nil || settings.joined != "" {
		// A cut connection is silent until it resumes; what carries it has its own
		// pings.
		server.TolerateOutages(settings.resumeWithin)
	}
	ended := make(chan error, 1)
	go func() {
		ends := make(chan error)
		for _, listener := range listeners {
			go func() { ends <- web.Serve(listener) }()
			go neighbours.Serve(neighbourListener{listener, listener.neighbourly})
			go narrow.Serve(neighbourListener{listener, listener.narrow})
		}
		var errs []error
		for range listeners {
			if err := <-ends; !errors.Is(err, http.ErrServerClosed) {
				logger.Error("the agent cannot be reached any more", "error", err)
				errs = append(errs, err)
			}
		}
		if len(errs) > 0 {
			self.abandon()
		}
		ended <- errors.Join(errs...)
	}()
	return []*http.Server{web, neighbours, narrow}, drain, ended, nil
}

// newServers are the servers of clients with control, and of partners and peers
// by how many calls their connection may have.
func newServers(settings *settings, self *container, gate *server.Gate, logger *slog.Logger) (web, neighbours, narrow *http.Server) {
	resolve := func(_ context.Context, id string) (server.Container, error) {
		if own := self.standings.Load().rule.containerID; id != "" && id != own {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("this is the agent of container %s", own))
		}
		return self, nil
	}
	web = server.NewServer(self.standings.byRole(gate.Wrap(server.NewHandler(resolve))), logger)
	handler := self.standings.byRole(gate.Wrap(server.NewNeighbourHandler(resolve)))
	neighbours = server.ForNeighbours(server.NewServer(handler, logger), wideCalls)
	narrow = server.ForNeighbours(server.NewServer(handler, logger), narrowCalls)
	for _, web := range []*http.Server{web, neighbours, narrow} {
		if settings.callback == nil && settings.joined == "" {
			server.WithPings(web)
		}
		web.ConnContext = self.standings.withRole
	}
	return web, neighbours, narrow
}

// listen opens the listeners through which the agent is reached.
func listen(settings *settings, self *container, certificate tls.Certificate, logger *slog.Logger) (gatekeepers []*gatekeeper, drain func(ctx context.Context, isPatient func() bool), err error) {
	var listeners []net.Listener
	drain = func(context.Context, func() bool) {}
	if settings.listen != "" {
		listener, err := net.Listen("tcp", settings.listen)
		if err != nil {
			return nil, nil, fmt.Errorf("serve the agent: %w", err)
		}
		listeners = append(listeners, listener)
	}
	if settings.joined != "" {
		listener, err := net.Listen("tcp", settings.joined)
		if err != nil {
			return nil, nil, fmt.Errorf("serve the agent: %w", err)
		}
		joined := callback.Joined(listener, settings.resumeWithin, logger)
		listeners = append(listeners, joined)
		drain = joined.Drain
	}
	if c := settings.callback; c != nil {
		calling := callback.Listen(callback.Options{URL: c.url, Instance: settings.pin, ContainerID: settings.containerID,
			Certificate: certificate, Token: c.token, PingEvery: c.pingEvery, ResumeWithin: settings.resumeWithin, Logger: logger})
		self.callAs = calling.CallAs
		self.partners.call = calling.DialPeer
		listeners = append(listeners, calling)
		drain = calling.Drain
	}
	admitted := admission{
		tls:        self.standings.tlsConfig(),
		timeout:    handshakeTimeout,
		roleOf:     self.standings.roleOf,
		neighbours: newShares(maxConnections, maxAllConnections),
		wide:       newShares(maxWide, maxAllConnections),
	}
	for _, listener := range listeners {
		gatekeepers = append(gatekeepers, newGatekeeper(listener, admitted, logger))
	}
	return gatekeepers, drain, nil
}

// recordPlace is where the output is recorded.
type recordPlace struct {
	directory string // empty: memory
	settings  log.Settings
}

// memoryLog bounds a record in memory.
var memoryLog = log.Settings{MaxSize: 4 << 20, MaxFiles: 2}

// openLog opens the record in its directory, or in memory if nothing can be
// written there.
func openLog(settings *settings, logger *slog.Logger) (*log.Writer, recordPlace, error) {
	if settings.logDir != "" {
		writer, recovery, err := log.Open(settings.logDir, settings.log)
		if err == nil {
			if recovery != (log.Recovery{}) {
				logger.Warn("the record of an earlier run was damaged", "cut_bytes", recovery.CutBytes, "file", recovery.Damaged)
			}
			return writer, recordPlace{settings.logDir, settings.log}, nil
		}
		logger.Warn("output is recorded in memory", "error", err)
	}
	writer, _, err := log.Open("", memoryLog)
	return writer, recordPlace{settings: memoryLog}, err
}

func (p recordPlace) limitations() []string {
	if p.directory != "" {
		return nil
	}
	return []string{fmt.Sprintf("keeps at most %d MiB of output: no directory for the record is writable",
		p.settings.MaxSize*uint64(p.settings.MaxFiles)>>20)}
}

// markContainer creates the file by which programs recognise a container, unless
// the root is read-only.
func markContainer(own *powers) {
	if !own.pidOne {
		return
	}
	if mark, err := os.OpenFile("/.dockerenv", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755); err == nil {
		mark.Close()
	}
}
