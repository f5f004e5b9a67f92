package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/filelock"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/stdio"
	"github.com/sockerless/sockerless/agent/core/usage"
	"github.com/sockerless/sockerless/agent/core/version"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// localContainer is one container of the OCI runtime. It implements
// session.Runtime.
type localContainer struct {
	spec    *shimspec.Spec // of the first generation
	runtime *ociRuntime
	current atomic.Pointer[running]
	sandbox *sandbox // after create; nil: nothing is kept for another generation
	moves   *quickMoves
	// started is called once the first main process runs.
	started func()
	// outOfMemory is called whenever the kernel's OOM killer has killed a
	// process.
	outOfMemory func()
}

// running is a container's current generation.
type running struct {
	spec *shimspec.Spec
	exec *processTemplate
	main *spawned // after create
	// after create
	oom    *oomCounter
	cgroup usage.Cgroup
	// after create; nil: execs use the runtime
	confinement  *confinement
	needsRuntime error // why
}

func (c *localContainer) paths() shimspec.ContainerPaths {
	return shimspec.ContainerPaths{Dir: filepath.Dir(c.spec.ExitRecord), Run: filepath.Dir(c.spec.AgentSocket)}
}

// main is the current main process; nil: not created.
func (c *localContainer) main() *spawned { return c.current.Load().main }

// create has the runtime create the container, up to executing the command.
func (c *localContainer) create() error {
	c.moves.soon()
	defer c.moves.end()
	streams := session.Streams{Stdin: c.spec.OpenStdin, Stdout: true, Stderr: true}
	main, err := c.runtime.spawn(
		c.spec.TTY, streams, stdio.OpenNull, "create", "--bundle", c.spec.Bundle, c.spec.ContainerID,
	)
	if err != nil {
		return err
	}
	faultpoint.Reached("shim.start.created")
	created := *c.current.Load()
	created.main = main
	c.current.Store(&created)
	if err := c.endTogether(); err != nil {
		return err
	}
	configFile := filepath.Join(c.spec.Bundle, "config.json")
	confined := created
	confined.oom = findOOMCounter(main.child.PID())
	// A process killed meanwhile has none, and needs none.
	confined.cgroup, _ = usage.CgroupOf(main.child.PID())
	confined.confinement, confined.needsRuntime = readConfinement(configFile, c.spec.ContainerID, main.child, c.runtime.reaper)
	c.current.Store(&confined)
	if err := c.keepSandbox(configFile, &confined); err != nil {
		return err
	}
	if size := c.spec.ConsoleSize; size != nil && main.stdio.Terminal != nil {
		if err := session.SetTerminalSize(main.stdio.Terminal, size.Height, size.Width); err != nil {
			return fmt.Errorf("size the terminal: %w", err)
		}
	}
	return nil
}

// watchMemory reports OOM kills as they happen.
func (c *localContainer) watchMemory() {
	if err := c.current.Load().oom.watch(c.outOfMemory); err != nil {
		slog.Warn("want of memory is only seen at the end", "error", err)
	}
}

// Launch lets the created process execute the command.
func (c *localContainer) Launch(_ context.Context, request *agentv1.StartRequest) (session.Process, session.Stdio, error) {
	// Before the command runs: a reader who finds this process dead must not run
	// it again.
	begun := shimspec.Begun{Version: shimspec.Version, Generation: request.Generation, At: time.Now()}
	if err := writeJSON(c.paths().BegunRecord(), begun); err != nil {
		return nil, session.Stdio{}, err
	}
	if request.Generation > c.spec.Generation && c.spec.Keep {
		return c.launchStep(request.Generation)
	}
	current := c.current.Load()
	main := current.main
	err := c.runtime.letExecute(main.child)
	if errors.Is(err, errRuntimeOnly) {
		err = c.runtime.run(nil, "start", c.spec.ContainerID)
	}
	if err != nil {
		_ = main.child.Signal(unix.SIGKILL) // probably gone already
		return nil, session.Stdio{}, startFailure(err)
	}
	faultpoint.Reached("shim.start.executing")
	if current.exec.underInit() {
		awaitCommand(main.child)
	}
	c.started()
	return &process{Child: main.child, oom: current.oom}, main.stdio, nil
}

// Exec starts a process in the container. If the program cannot be executed, the
// OCI runtime tries too, for its error message, unless processes of the container
// may trace each other and so take over the runtime's.
func (c *localContainer) Exec(_ context.Context, spec *agentv1.ProcessSpec, streams session.Streams) (session.Process, session.Stdio, error) {
	current := c.current.Load()
	if current.confinement == nil || current.confinement.cgroups.waits {
		c.moves.soon()
	}
	root, err := c.openRoot()
	if err != nil {
		return nil, session.Stdio{}, err
	}
	defer root.Close()
	specification, err := current.exec.processFor(spec, root)
	if err != nil {
		return nil, session.Stdio{}, execFailure(err)
	}
	before := current.oom.kills()
	made, err := c.execDirectly(current, specification, root, streams)
	// The runtime knows only the first generation.
	byRuntime := current.spec.Generation == c.spec.Generation
	if byRuntime && (errors.Is(err, errRuntimeOnly) || errors.Is(err, errNothingRan) && !current.confinement.traces) {
		if err = checkUsers(specification, root); err == nil {
			made, err = c.execByRuntime(specification, spec.Tty, streams)
		}
	}
	if err != nil {
		return nil, session.Stdio{}, execFailure(err)
	}
	return &process{Child: made.child, exec: true, oom: current.oom, before: before}, made.stdio, nil
}

// checkUsers refuses passwd and group files at which the runtime would block or
// which it would misread.
func checkUsers(specification []byte, root *os.File) error {
	var process ociProcess
	if err := json.Unmarshal(specification, &process); err != nil {
		return fmt.Errorf("parse the exec's process: %w", err)
	}
	return identity.CheckForRuntime(root, process.User.AdditionalGIDs)
}

// execDirectly executes without the OCI runtime. After errRuntimeOnly or
// errNothingRan the runtime may try.
func (c *localContainer) execDirectly(current *running, specification []byte, root *os.File, streams session.Streams) (*spawned, error) {
	if current.confinement == nil {
		return nil, fmt.Errorf("%w: %w", errRuntimeOnly, current.needsRuntime)
	}
	spec, err := current.confinement.enterSpec(specification, root)
	if err != nil {
		return nil, err
	}
	return current.confinement.run(c.runtime.reaper, spec, streams)
}

func (c *localContainer) execByRuntime(specification []byte, tty bool, streams session.Streams) (*spawned, error) {
	file := c.runtime.scratchName("process")
	if err := os.WriteFile(file, specification, 0o600); err != nil {
		return nil, fmt.Errorf("write the exec's process: %w", err)
	}
	defer os.Remove(file)
	return c.runtime.spawn(tty, streams, openOwnNull, "exec", "--detach", "--process", file, c.spec.ContainerID)
}

// keepSandbox reads what the next generation reuses, if requested and possible.
func (c *localContainer) keepSandbox(configFile string, created *running) (err error) {
	if !c.spec.Keep || created.confinement == nil {
		return nil
	}
	c.sandbox, err = readSandbox(configFile, created.main.child.PID(), created.confinement)
	if errors.Is(err, errRuntimeOnly) {
		return nil
	}
	return err
}

// SignalAll also reaches processes that the main process did not start.
func (c *localContainer) SignalAll(_ context.Context, signal unix.Signal) error {
	if c.current.Load().spec.Generation > c.spec.Generation {
		return c.signalStep(signal) // the runtime does not know later generations
	}
	return c.runtime.run(nil, "kill", "--all", c.spec.ContainerID, strconv.Itoa(int(signal)))
}

// Pause freezes the container's cgroup.
func (c *localContainer) Pause(context.Context) error {
	return c.runtime.run(nil, "pause", c.spec.ContainerID)
}

// Resume thaws the container's cgroup.
func (c *localContainer) Resume(context.Context) error {
	return c.runtime.run(nil, "resume", c.spec.ContainerID)
}

// openRoot opens the container's root directory as its main process sees it,
// mounts included. It returns session.ErrNotRunning if that process has ended,
// even if its end is not known here yet.
func (c *localContainer) openRoot() (*os.File, error) {
	return c.openOfMain("root", unix.O_PATH|unix.O_DIRECTORY)
}

// openOfMain opens an entry of the main process's /proc directory.
func (c *localContainer) openOfMain(what string, flags int) (*os.File, error) {
	main := c.main().child
	name := filepath.Join("/proc", strconv.Itoa(main.PID()), what)
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		// A dying process loses it before it can be waited for.
		return nil, session.ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("open %s of the container: %w", what, err)
	}
	select {
	case <-main.Done():
		// The number may belong to another process by now.
		unix.Close(fd)
		return nil, session.ErrNotRunning
	default:
		return os.NewFile(uintptr(fd), name), nil
	}
}

// agent is the container as AgentService shows it.
type agent struct {
	server.Core
	container *localContainer
	log       *log.Writer
	handOvers *handover.Offers
}

// HandOvers accepts clients' connections.
func (a *agent) HandOvers() *handover.Offers { return a.handOvers }

var _ server.Container = (*agent)(nil)

// Hello identifies the agent.
func (a *agent) Hello(context.Context) (*agentv1.HelloResponse, error) {
	return &agentv1.HelloResponse{
		Version:     version.Version,
		Mode:        agentv1.Mode_MODE_SHIM,
		ContainerId: a.container.spec.ContainerID,
	}, nil
}

// Describe is for agents whose Start carries a specification.
func (a *agent) Describe(ctx context.Context) (*agentv1.DescribeResponse, error) {
	return server.Unimplemented{Mode: "a shim"}.Describe(ctx)
}

// Logs reads the recorded output.
func (a *agent) Logs(_ context.Context, options log.ReadOptions) (*log.Reader, error) {
	return a.log.Reader(options)
}

// Files opens the root of the running container; once it has ended, the host
// process serves its files. Its mounts stay until ctx is done, even if the
// container ends.
func (a *agent) Files(ctx context.Context, _ bool) (*os.File, error) {
	if a.container.main() == nil {
		return nil, server.ErrLeaving
	}
	if err := a.holdFiles(ctx); err != nil {
		return nil, err
	}
	mounts, err := a.container.openOfMain("ns/mnt", unix.O_RDONLY)
	if err != nil {
		return nil, leavingIfEnded(err)
	}
	context.AfterFunc(ctx, func() { mounts.Close() })
	root, err := a.container.openRoot()
	return root, leavingIfEnded(err)
}

// holdFiles has the host process leave the container's overlay mounted, and wait
// with a removal, until ctx is done.
func (a *agent) holdFiles(ctx context.Context) error {
	held, err := filelock.Share(a.container.paths().Dir)
	if err == nil {
		context.AfterFunc(ctx, func() { held.Close() })
	}
	return err
}

// StillThere implements server.Removable.
func (a *agent) StillThere() error {
	_, err := os.Lstat(a.container.paths().Dir)
	return err
}

// leavingIfEnded redirects the caller to the process that serves an ended
// container's files.
func leavingIfEnded(err error) error {
	if errors.Is(err, session.ErrNotRunning) {
		return server.ErrLeaving
	}
	return err
}

// process is a process of the container.
type process struct {
	*children.Child
	oom    *oomCounter
	exec   bool
	before uint64 // kills before an exec began
}

// Status reports OOMKilled for the main process if any process of the container
// was killed, as Docker does, and for an exec if it may have been the one.
func (p *process) Status() session.ExitStatus {
	status := session.ExitStatusOf(p.Child.Status())
	kills := p.oom.kills()
	status.OOMKilled = kills > p.before && (!p.exec || status.Signal == int(unix.SIGKILL))
	return status
}
