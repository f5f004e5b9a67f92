// Package shim runs one local container: it owns the container's stdio, its
// log, its published ports and its exit record, and outlives the backend and
// the host process that started it. See package shimspec for how it is started
// and ends.
package shim

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/descriptors"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/core/ports"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Main is `sockerless-agent shim`. It returns the process's exit code.
func Main(arguments []string) int {
	flags := flag.NewFlagSet("shim", flag.ContinueOnError)
	specFile := flags.String("spec", "", "the shim's specification (shim.json)")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	memory.BeSmall()
	err := descriptors.CloseInherited(shimspec.ListenerFD, shimspec.ReadinessFD, shimspec.SpecifiedFD)
	if err == nil {
		err = run(*specFile, os.NewFile(shimspec.ReadinessFD, "readiness"))
	}
	if err != nil {
		slog.Error("the shim failed", "error", err)
		return 1
	}
	return 0
}

// shim is the state of a running shim.
type shim struct {
	spec      *shimspec.Spec
	logger    *slog.Logger
	terminate chan os.Signal

	log       *log.Writer
	records   *exitRecords
	container *localContainer
	sessions  *session.Sessions
	ports     *ports.Set
	sockets   *dockerSockets
	resolver  *resolver
	self      *networkedAgent
	moves     quickMoves
	handOvers *handover.Offers
	gate      *server.Gate
	http      *http.Server
	listening *os.File // keeps connections from being refused while it is open
}

func run(specFile string, readiness *os.File) error {
	s := &shim{terminate: make(chan os.Signal, 1)}
	s.moves.soon()
	handler := server.NewHandler(s.resolve)
	if !awaitSpec() {
		return errors.New("the container was not prepared to its end")
	}
	spec, err := readSpec(specFile)
	if err != nil {
		return errors.Join(err, refuse(readiness, 0, err))
	}
	s.spec = spec
	if err := s.settle(); err != nil {
		return errors.Join(err, refuse(readiness, spec.Generation, err))
	}
	reaper := children.Start()
	if err := s.prepare(reaper); err != nil {
		s.cleanUp()
		return errors.Join(err, refuse(readiness, spec.Generation, err))
	}
	served := make(chan error, 1)
	if err := s.serve(handler, served); err != nil {
		s.cleanUp()
		return errors.Join(err, refuse(readiness, spec.Generation, err))
	}
	if err := s.announce(readiness); err != nil {
		s.logger.Error("readiness is not announced", "error", err)
	}
	s.leave(s.wait())
	return <-served
}

// awaitSpec waits until the specification is written; false: there will be none.
func awaitSpec() bool {
	specified := os.NewFile(shimspec.SpecifiedFD, "specified")
	defer specified.Close()
	n, _ := specified.Read(make([]byte, 1))
	return n == 1
}

// settle detaches the process from its parent.
func (s *shim) settle() error {
	// Orphans of the runtime's commands, such as the container's init, become our
	// children.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	signal.Notify(s.terminate, unix.SIGTERM)
	file, err := openBounded(filepath.Join(filepath.Dir(s.spec.ExitRecord), "shim.log"), shimLogLimit)
	if err != nil {
		return fmt.Errorf("open the shim's log: %w", err)
	}
	// Go's runtime writes its crashes to stderr.
	if err := unix.Dup3(int(file.file.Fd()), 2, 0); err != nil {
		return fmt.Errorf("redirect stderr: %w", err)
	}
	s.logger = slog.New(slog.NewTextHandler(file, nil))
	slog.SetDefault(s.logger)
	return nil
}

// prepare does everything that can fail before the command runs.
func (s *shim) prepare(reaper *children.Reaper) (err error) {
	spec := s.spec
	var recovery log.Recovery
	s.log, recovery, err = log.Open(spec.LogDir, log.Settings{
		Disabled: spec.Log.Disabled, MaxSize: spec.Log.MaxSize, MaxFiles: spec.Log.MaxFiles,
		BufferSize: spec.Log.BufferSize,
	})
	if err != nil {
		return err
	}
	if recovery.CutBytes > 0 || recovery.Damaged != "" {
		s.logger.Warn("the log of an earlier run was damaged", "cut_bytes", recovery.CutBytes, "file", recovery.Damaged)
	}
	if s.sockets, err = serveDockerSockets(spec.DockerSockets, ports.Relayed(), s.logger); err != nil {
		return err
	}
	if s.ports, err = ports.Bind(spec.Ports, ports.DialInNamespace(spec.NetworkNamespace), s.logger); err != nil {
		return err
	}
	s.container = &localContainer{
		spec:  spec,
		moves: &s.moves,
		runtime: &ociRuntime{
			path: spec.Runtime, root: spec.RuntimeRoot, container: spec.ContainerID,
			scratch: filepath.Dir(spec.AgentSocket), reaper: reaper,
		},
		started: s.ports.Serve,
	}
	exec, err := readProcessTemplate(filepath.Join(spec.Bundle, "config.json"), spec.SecretEnv)
	if err != nil {
		return err
	}
	s.container.current.Store(&running{spec: spec, exec: exec})
	s.container.runtime.pidsLimit = exec.pidsLimit
	s.records = &exitRecords{spec: func() *shimspec.Spec { return s.container.current.Load().spec }, logger: s.logger}
	s.sessions = session.New(session.MainProcess{TTY: spec.TTY, StdinOnce: spec.StdinOnce}, session.Options{
		Runtime: s.container,
		Log:     s.log,
		Free:    s.ports.Free,
		Persist: s.records.write,
		Logger:  s.logger,

		Restartable: spec.Keep,
	})
	s.container.outOfMemory = s.sessions.OutOfMemory
	return s.create()
}

// create has the runtime create the container. A command that cannot be executed
// is not an error here: Start returns it.
func (s *shim) create() error {
	err := s.container.create()
	var refused *runtimeError
	if errors.As(err, &refused) {
		failure := createFailure(err)
		if failure.ExitCode == exitUnknown {
			return failure
		}
		s.ports.Close()
		s.sessions.FailStart(failure)
		return nil
	}
	if err != nil {
		return err
	}
	main := s.container.main().child
	s.container.watchMemory()
	go func() {
		status := session.ExitStatusOf(main.Status())
		s.moves.end()
		s.sessions.EndBeforeStart(status)
	}()
	return nil
}

// cleanUp undoes prepare.
func (s *shim) cleanUp() {
	if s.container != nil && s.container.current.Load() != nil && s.container.main() != nil {
		main := s.container.main().child
		_ = main.Signal(unix.SIGKILL)
		main.Status()
		if err := s.container.runtime.run(nil, "delete", "--force", s.spec.ContainerID); err != nil {
			s.logger.Error("the container is not deleted", "error", err)
		}
	}
	if s.ports != nil {
		s.ports.Close()
	}
	if s.sockets != nil {
		s.sockets.close()
	}
	if s.log != nil {
		s.log.Close()
	}
}

// serve starts to serve on the inherited socket.
func (s *shim) serve(handler http.Handler, served chan<- error) error {
	s.listening = os.NewFile(shimspec.ListenerFD, "agent socket")
	listener, err := net.FileListener(s.listening)
	if err != nil {
		return fmt.Errorf("use the inherited agent socket: %w", err)
	}
	s.resolver = &resolver{namespace: s.spec.NetworkNamespace, logger: s.logger}
	s.handOvers = handover.NewOffers(s.container.paths().HandOverSocket(), s.logger)
	s.self = &networkedAgent{
		agent: &agent{
			Core: server.Core{Sessions: s.sessions}, container: s.container, log: s.log, handOvers: s.handOvers,
		},
		resolver: s.resolver,
		hosts:    filepath.Join(s.container.paths().Files(), "hosts"),
	}
	s.gate = server.NewGate()
	s.http = server.ForLocal(server.NewServer(s.gate.Wrap(handler), s.logger))
	go func() {
		err := s.http.Serve(server.Buffered(listener))
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		served <- err
	}()
	return nil
}

// resolve returns the container for a call, once serve has run.
func (s *shim) resolve(_ context.Context, id string) (server.Container, error) {
	if id != "" && id != s.spec.ContainerID {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("this is the agent of container %s", s.spec.ContainerID))
	}
	return s.self, nil
}

// announce tells the host process that the container is created.
func (s *shim) announce(readiness *os.File) error {
	defer readiness.Close()
	ready := shimspec.Readiness{
		Version:    shimspec.Version,
		Generation: s.spec.Generation,
		ShimPID:    os.Getpid(),
	}
	if main := s.container.main(); main != nil {
		ready.PID = main.child.PID()
		ready.BoundPorts = s.ports.Bound()
		ready.Keeps = s.container.sandbox != nil
	}
	if err := writeJSON(s.spec.ReadyRecord, ready); err != nil {
		return err
	}
	faultpoint.Reached("shim.start.announced")
	return writeLine(readiness, ready)
}

// refuse tells the host process why there is no container.
func refuse(readiness *os.File, generation uint64, reason error) error {
	defer readiness.Close()
	code := connect.CodeInternal
	switch {
	case errors.Is(reason, ports.ErrAllocated):
		code = connect.CodeResourceExhausted
	case errors.Is(reason, unix.EADDRNOTAVAIL):
		code = connect.CodeFailedPrecondition
	}
	return writeLine(readiness, shimspec.Readiness{
		Version:    shimspec.Version,
		Generation: generation,
		ShimPID:    os.Getpid(),
		Error:      &shimspec.ReadinessError{Code: code.String(), Message: reason.Error()},
	})
}

func writeLine(file *os.File, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	// EPIPE: the host process is gone; its successor finds the record.
	_, err = file.Write(append(line, '\n'))
	return err
}
