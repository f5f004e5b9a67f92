package forwarder

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/change"
)

// rememberedLosses bounds the lost attachments whose clients have not waited yet.
const rememberedLosses = 1000

// outputLimit limits how long a wait depends on output: longer than the silence
// after which a stream counts as cut.
const outputLimit = 45 * time.Second

// idLength is the length of a container's ID.
const idLength = 64

// errLost ends a wait because of a loss.
var errLost = errors.New("a request of its client for the same container was lost")

// guard requests to guard an attachment or a start that the frontend serves: if
// it is lost, what its client waits for may never happen, or happen without the
// requested output.
type guard struct {
	Container string `json:"container"` // as the client names it
	// Attached: waits that begin after the loss end as well.
	Attached bool `json:"attached"`
	// Farewell is written if the request is lost before its stream has begun.
	Farewell []byte `json:"farewell"` // base64
	// Served means that the agent of its stream is known: waits report a success only
	// once it is settled.
	Served bool `json:"served"`
}

// guarded is a guarded request, with a copy of its connection.
type guarded struct {
	guard
	fd      int
	process int32
	// passing means that an agent is offered the connection, which completes the
	// request.
	passing bool
}

// standing is a held wait.
type standing struct {
	process int32
	name    string // of the container, as the client names it
	id      string // of the container, once a backend has accepted the wait
	end     context.CancelCauseFunc
}

// loss is a lost attachment.
type loss struct {
	process   int32
	container string // its ID
}

// guards has the requests that clients' waits depend on. A loss ends the waits of
// the same process (SO_PEERCRED) for the same container.
type guards struct {
	mu       sync.Mutex
	isGone   bool // the frontend is gone
	requests map[int]*guarded
	waits    map[*standing]struct{}
	lost     []loss // without a wait yet
	changed  change.Signal
}

// add guards a request, taking over its descriptor, unless there are too many.
func (g *guards) add(id, fd int, of *guard, most int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int64(len(g.requests)) >= most {
		return false
	}
	if g.requests == nil {
		g.requests = map[int]*guarded{}
	}
	g.requests[id] = &guarded{guard: *of, fd: fd, process: peerOf(fd)}
	return true
}

// begin records that a request's stream has begun, or is being passed to an
// agent.
func (g *guards) begin(id int, passing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if request := g.requests[id]; request != nil {
		request.Farewell, request.passing = nil, passing
	}
}

// passed records the result of an offer.
func (g *guards) passed(id int, isAgents bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	request := g.requests[id]
	if request == nil {
		return
	}
	request.passing = false
	if isAgents {
		g.settle(id)
	} else if g.isGone {
		g.lose(id)
	}
}

// serve records that the agent of a request's stream is known.
func (g *guards) serve(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if request := g.requests[id]; request != nil {
		request.Served = true
	}
}

// settled waits until every served request that a wait depends on is settled; a
// lost one ends the wait. Its client takes an exit code for the whole truth, and
// ignores what befalls the output afterwards.
func (g *guards) settled(ctx context.Context, wait *standing) {
	ctx, cancel := context.WithTimeout(ctx, outputLimit)
	defer cancel()
	_ = g.changed.Wait(ctx, &g.mu, func() bool {
		for _, request := range g.requests {
			if request.Served && wait.dependsOn(request.process, request.Container) {
				return false
			}
		}
		return true
	})
}

// end removes a request that was completed or lost.
func (g *guards) end(id int, isLost bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isLost {
		g.lose(id)
	} else {
		g.settle(id)
	}
}

// leave marks the requests of a frontend that is gone as lost.
func (g *guards) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isGone = true
	for id, request := range g.requests {
		if !request.passing {
			g.lose(id)
		}
	}
}

func (g *guards) settle(id int) {
	if request := g.requests[id]; request != nil {
		delete(g.requests, id)
		_ = unix.Close(request.fd)
		g.changed.Notify()
	}
}

func (g *guards) lose(id int) {
	request := g.requests[id]
	if request == nil {
		return
	}
	isAwaited := false
	for wait := range g.waits {
		if wait.dependsOn(request.process, request.Container) {
			isAwaited = true
			wait.end(errLost)
		}
	}
	if !isAwaited && request.Attached && request.process > 0 {
		g.lost = append(g.lost, loss{request.process, request.Container})
		g.lost = g.lost[max(0, len(g.lost)-rememberedLosses):]
	}
	slog.Debug("a request is lost", "container", request.Container, "awaited", isAwaited)
	if g.isGone {
		_, _ = unix.Write(request.fd, request.Farewell)
	}
	g.settle(id)
}

// hold registers a wait, so that a loss ends it, until it is released.
func (g *guards) hold(process int32, container string, end context.CancelCauseFunc) *standing {
	wait := &standing{process: process, name: container, end: end}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waits == nil {
		g.waits = map[*standing]struct{}{}
	}
	g.waits[wait] = struct{}{}
	return wait
}

// accepted sets the container of a wait, and ends it, once, because of an earlier
// loss.
func (g *guards) accepted(wait *standing, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait.id = id
	for i, lost := range g.lost {
		if wait.dependsOn(lost.process, lost.container) {
			g.lost = append(g.lost[:i], g.lost[i+1:]...)
			wait.end(errLost)
			return
		}
	}
}

func (g *guards) release(wait *standing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waits, wait)
}

// dependsOn reports whether a wait is of that process and for that container,
// which is given as in the wait's request, or by its ID or a prefix of that.
func (s *standing) dependsOn(process int32, container string) bool {
	isSame := container == s.name || isBeginning(container, s.id) || isBeginning(container, s.name) || isBeginning(s.name, container)
	return process > 0 && s.process == process && isSame
}

// isBeginning reports whether a text is a prefix of a full ID.
func isBeginning(text, id string) bool { return len(id) == idLength && strings.HasPrefix(id, text) }

// peerOf returns the PID of the process at the other end of a connection; 0 if
// unknown, for instance in another PID namespace.
func peerOf(fd int) int32 {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return peer.Pid
}
