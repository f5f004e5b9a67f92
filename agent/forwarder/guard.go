package forwarder

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// rememberedLosses bounds the attachments whose clients have yet to wait.
const rememberedLosses = 1000

// idLength is that of a container's ID.
const idLength = 64

// errLost breaks a wait.
var errLost = errors.New("a request of its client for the same container was lost")

// guard asks to look after a request that the frontend serves, an attachment or a
// start: if it is lost, what its client waits for may never come, or without the
// output that it has asked for.
type guard struct {
	Container string `json:"container"` // as the client names it
	// Attached says that a wait that comes after the loss breaks too.
	Attached bool `json:"attached"`
	// Farewell is written if the request is lost before its stream has begun.
	Farewell []byte `json:"farewell"` // base64
}

// guarded is a request, by a copy of its connection.
type guarded struct {
	guard
	fd      int
	process int32
	// passing says that an agent is offered the connection: that settles it.
	passing bool
}

// standing is a wait that is held.
type standing struct {
	process int32
	name    string // of the container, as the client names it
	id      string // of the container, once a backend has accepted the wait
	end     context.CancelCauseFunc
}

// loss is an attachment that was lost.
type loss struct {
	process   int32
	container string // its ID
}

// guards has what the waits of clients depend on. A loss breaks those of the same
// process (SO_PEERCRED) for the same container.
type guards struct {
	mu       sync.Mutex
	isGone   bool // the frontend
	requests map[int]*guarded
	waits    map[*standing]struct{}
	lost     []loss // without a wait so far
}

// add looks after a request. Its descriptor is ours from here on, unless there are
// as many as may be.
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

// begin says that a request's stream has begun, or is to be an agent's.
func (g *guards) begin(id int, passing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if request := g.requests[id]; request != nil {
		request.Farewell, request.passing = nil, passing
	}
}

// passed says what came of an offer.
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

// end settles a request, or says that it is lost.
func (g *guards) end(id int, isLost bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isLost {
		g.lose(id)
	} else {
		g.settle(id)
	}
}

// leave loses the requests of a frontend that is gone.
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

// hold has a wait broken by a loss, until it is released.
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

// accepted says which container a wait is for, and breaks it for a loss that came
// before it, once.
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

// dependsOn tells whether a wait is of that process, and for that container, which is
// named as the wait names it, or by its ID or the beginning of that.
func (s *standing) dependsOn(process int32, container string) bool {
	isSame := container == s.name || isBeginning(container, s.id) || isBeginning(container, s.name) || isBeginning(s.name, container)
	return process > 0 && s.process == process && isSame
}

// isBeginning tells whether a text is one of a full ID.
func isBeginning(text, id string) bool { return len(id) == idLength && strings.HasPrefix(id, text) }

// peerOf is the process at the other end of a connection. 0: it is not known, as in a
// namespace that is not ours.
func peerOf(fd int) int32 {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return peer.Pid
}
