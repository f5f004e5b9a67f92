// Package session is the core of an agent: one container's main process, its
// execs, the clients' sessions with them, and the events for watchers. The
// Runtime creates the processes.
package session

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Options of Sessions.
type Options struct {
	Runtime Runtime
	Log     *log.Writer // nil: output is not recorded
	// Free releases what others may use once they learn that the main process has
	// ended or could not start: it is called before anybody learns it, perhaps
	// twice. May be nil.
	Free func()
	// Persist saves the state beyond the agent's life. It is called before
	// anybody learns that the main process has ended or could not start, and
	// again when a later exec ends. A failed call is repeated until it succeeds.
	// nil: not saved.
	Persist func(*agentv1.ContainerState) error
	// Restartable lets a later generation start once the main process has ended.
	Restartable bool
	Logger      *slog.Logger
}

// Sessions are one container's processes, and the sessions with them.
type Sessions struct {
	options Options

	mu         sync.Mutex
	run        *run       // the current one, never nil
	next       *run       // attachments that wait for the next start; nil: none
	signalling sync.Mutex // one Signal with a token at a time
	pausing    sync.Mutex // one Pause or Resume at a time
	paused     bool
	execs      map[string]*exec
	ended      []string // execs that ended, oldest first
	unkept     bool     // Persist has failed and is being retried
	health     []*agentv1.HealthResult
	hub        hub
	changed    change.Signal // of anything that Start or a Wait function waits for
	left       []leaving     // clients that detached by their keys, until that is acknowledged
}

// run is one start of the main process, including the time before it.
type run struct {
	outputs outputs
	input   *input
	tty     bool
	once    bool // stdin closes when the first attacher with stdin leaves

	after      uint64 // generation of the run before
	generation uint64
	begun      bool              // Start was called
	callers    []context.Context // of Start, until the process is launched
	attached   map[string]bool   // reservations with an opened session
	launching  bool              // no longer waiting for them
	missed     []string          // reservations that it no longer waited for

	response *agentv1.StartResponse // of Start, once it is known
	process  Process                // once started
	terminal *os.File               // of the process, if it has one
	dead     bool                   // the process has ended, its output is still being moved
	exit     *ExitStatus            // set after that
	failure  *agentv1.StartFailure
	sessions map[*Session]struct{} // attachments waiting for the end

	signalled []string // client tokens of the last signals that were sent

	outOfMemory bool
}

// MainProcess is what is known about the main process before its start.
type MainProcess struct {
	TTY       bool
	StdinOnce bool // stdin ends when the first attacher with stdin leaves
}

// New returns the sessions of a container whose main process has not started.
func New(main MainProcess, options Options) *Sessions {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Sessions{
		options: options,
		execs:   make(map[string]*exec),
		hub:     hub{sequence: 1, watchers: make(map[*Watcher]struct{})},
	}
	c.run = c.newRun(main)
	return c
}

func (c *Sessions) newRun(main MainProcess) *run {
	r := &run{
		input:    newInput(),
		tty:      main.TTY,
		once:     main.StdinOnce,
		attached: make(map[string]bool),
		sessions: make(map[*Session]struct{}),
	}
	r.outputs.record = recordIn(c.options.Log, func(err error) {
		c.options.Logger.Error("output is not recorded", "error", err)
	})
	return r
}

// State is the whole state, as in a watcher's first event.
func (c *Sessions) State() *agentv1.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state()
}

// state is State with c.mu held.
func (c *Sessions) state() *agentv1.ContainerState {
	state := &agentv1.ContainerState{
		Started: c.run.response.GetStarted(),
		Failure: c.run.failure,
		Paused:  c.paused,
		Health:  c.health,

		OutOfMemory: c.run.outOfMemory,
	}
	if c.run.exit != nil {
		state.Exit = c.run.exit.Proto()
	}
	for _, id := range c.ended {
		state.EndedExecs = append(state.EndedExecs, c.execs[id].endedMessage(id))
	}
	for _, l := range c.left {
		state.DetachedStreams = append(state.DetachedStreams, l.detached)
	}
	for id, e := range c.execs {
		if e.process != nil && e.exit == nil {
			state.RunningExecs = append(state.RunningExecs, &agentv1.ExecStarted{ExecId: id, Pid: int64(e.process.PID())})
		}
	}
	return state
}

// free is called with c.mu held.
func (c *Sessions) free() {
	if c.options.Free != nil {
		c.options.Free()
	}
}

// persistRetry is the interval between attempts to save the state; a variable for
// tests.
var persistRetry = time.Second

// persist saves the state. Watchers are told even if it fails for now: the disk
// may be full. c.mu is held.
func (c *Sessions) persist(state *agentv1.ContainerState) {
	if c.options.Persist == nil {
		return
	}
	err := c.options.Persist(state)
	if err != nil && !c.unkept {
		c.options.Logger.Error("the state is not kept: trying again", "error", err)
		go c.retryPersist()
	}
	c.unkept = err != nil
}

// retryPersist saves the current state as soon as that is possible.
func (c *Sessions) retryPersist() {
	for {
		time.Sleep(persistRetry)
		c.mu.Lock()
		if c.unkept && c.options.Persist(c.state()) == nil {
			c.unkept = false
			c.options.Logger.Info("the state is kept")
			c.changed.Notify()
		}
		isKept := !c.unkept
		c.mu.Unlock()
		if isKept {
			return
		}
	}
}

// Watch starts with the whole state.
func (c *Sessions) Watch() *Watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.hub.add(c.state(), func(w *Watcher) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.hub.watchers, w)
		c.changed.Notify()
	})
	if c.hub.released {
		w.push(c.hub.releasedAgain())
	}
	c.changed.Notify()
	return w
}

// Watchers returns the number of open watches.
func (c *Sessions) Watchers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hub.watchers)
}

// Release tells the watchers that the agent leaves; no event follows.
func (c *Sessions) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hub.released {
		c.hub.released = true
		c.hub.publish(releasedEvent())
	}
}

// OutOfMemory tells the watchers that the OOM killer killed a process of the
// container.
func (c *Sessions) OutOfMemory() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run.outOfMemory = true
	c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_Oom{Oom: &agentv1.OutOfMemory{}}})
}

// WaitEnded waits until the main process has ended or could not start, and
// watchers have been told.
func (c *Sessions) WaitEnded(ctx context.Context) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return c.run.over() })
}

// WaitNext waits until a later generation is started.
func (c *Sessions) WaitNext(ctx context.Context, generation uint64) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return c.run.generation > generation })
}

// EndAfter prevents any generation after this one, which is over. False: a later
// one has started, or this one runs.
func (c *Sessions) EndAfter(generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run.generation > generation || !c.run.over() {
		return false
	}
	c.options.Restartable = false
	return true
}

// WaitKept waits until the current state is saved.
func (c *Sessions) WaitKept(ctx context.Context) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return !c.unkept })
}

// WaitAnswered waits until a Start has been answered.
func (c *Sessions) WaitAnswered(ctx context.Context) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return c.run.response != nil })
}

// over reports whether the main process will not run (any more).
func (r *run) over() bool { return r.exit != nil || r.failure != nil }

// running reports whether the main process runs.
func (r *run) running() bool { return r.process != nil && !r.dead && r.exit == nil }

// agentStarted is when this program started.
var agentStarted = timestamppb.New(time.Now())

func startedProcess(pid int) *agentv1.StartedProcess {
	return &agentv1.StartedProcess{
		Pid:            int64(pid),
		StartedAt:      timestamppb.New(time.Now()),
		AgentStartedAt: agentStarted,
	}
}
