// Package forwarder is the process beside a frontend: it passes clients'
// connections to the agents of their containers, which a Node process cannot do
// itself, and holds those that wait for the end of a container or follow a log,
// so that they outlive the frontend. It also detects when a client has read what
// was written to it. It listens nowhere and starts nothing.
//
// The frontend communicates with it over Node's IPC channel.
package forwarder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

// state is the state of a guarded request, as the frontend reports it.
type state struct {
	ID    int    `json:"guarded"`
	State string `json:"state"`
}

// States of a guarded request, reported without a descriptor.
const (
	served  = "served"
	begun   = "begun"
	lost    = "lost"
	settled = "settled"
)

// handedOn is the destination of a connection, and what was read from it.
type handedOn struct {
	ID     int    `json:"id"`
	Socket string `json:"socket"`
	Token  string `json:"token"`
	Early  []byte `json:"early"` // base64
	Tell   bool   `json:"tell"`  // confirm also a successful hand-over
	Held   *held  `json:"held"`  // this process keeps it
	Read   bool   `json:"read"`  // the frontend keeps it, and waits until everything was read
	Guard  *guard `json:"guard"` // the frontend keeps it, and reports the state of its request
	// Guarded is the ID of a guarded request.
	Guarded int `json:"guarded"`
}

// answer reports a connection that was not passed on, or not with everything read
// from it. Sent: another process has it, or may have it; otherwise the frontend
// still has it. Without an error the connection is held, was passed on with Tell,
// or its client has had time to read.
type answer struct {
	ID    int    `json:"id"`
	Error string `json:"error"`
	Sent  bool   `json:"sent"`
}

// Main is `sockerless-agent forwarder`. It returns the exit code once the
// frontend is gone, its connections are passed on, and no client waits.
func Main([]string) int {
	// Its work comes in short turns: to wake a second thread would cost more than the work.
	runtime.GOMAXPROCS(1)
	var f *forwarder
	code := nodechannel.Run("no connections can be handed on", func(channel *nodechannel.Channel) (err error) {
		if f, err = newForwarder(channel); err != nil {
			return err
		}
		return f.run()
	})
	if f != nil {
		f.passing.Wait()
	}
	return code
}

func newForwarder(channel *nodechannel.Channel) (*forwarder, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	return &forwarder{channel: channel, transport: newTransport(), mostHeld: mostHeldOf(files.Cur), headerLead: handover.HeaderLead}, nil
}

// mostDescriptors bounds the descriptors that are shared out, as in the frontend, and so
// the memory of clients: a held one takes some 30 KB here and as much in the backend.
const mostDescriptors = 20_000

// mostHeldOf returns half of the descriptors that this process may open. The other half
// is for passing on connections, and for calls.
func mostHeldOf(descriptors uint64) int64 { return int64(min(descriptors, mostDescriptors) / 2) }

// forwarder serves one frontend.
type forwarder struct {
	channel   *nodechannel.Channel
	transport http.RoundTripper
	passing   sync.WaitGroup
	mostHeld  int64
	holding   atomic.Int64
	guards    guards
	// headerLead limits the wait until a client has read its answer's header.
	headerLead time.Duration
	// frontend is done once the frontend is gone.
	frontend context.Context
}

// run serves the frontend until it is gone. Clients may be held longer.
func (f *forwarder) run() error {
	frontend, leave := context.WithCancel(context.Background())
	f.frontend = frontend
	defer leave()
	defer f.channel.Close() // so that a frontend that still runs starts another forwarder
	defer f.guards.leave()
	for {
		received, err := f.channel.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !received.HasFD {
			if err := f.note(received.Message); err != nil {
				return err
			}
			continue
		}
		fd := received.FD
		var handed handedOn
		if err := json.Unmarshal(received.Message, &handed); err != nil {
			return err
		}
		if fd == nodechannel.Missing {
			_ = f.channel.Tell(answer{ID: handed.ID, Error: "the forwarder has too many open files"})
			continue
		}
		if handed.Guard != nil {
			f.guard(fd, handed)
			continue
		}
		f.guards.begin(handed.Guarded, true)
		f.passing.Add(1)
		go func() {
			defer f.passing.Done()
			switch {
			case handed.Read:
				f.awaitRead(fd, handed.ID)
			case handed.Held != nil:
				f.hold(fd, handed.ID, handed.Held)
			default:
				f.pass(fd, handed)
			}
		}()
	}
}

// note follows the state of a guarded request.
func (f *forwarder) note(message json.RawMessage) error {
	var m state
	if err := json.Unmarshal(message, &m); err != nil {
		return err
	}
	switch m.State {
	case served:
		f.guards.serve(m.ID)
	case begun:
		f.guards.begin(m.ID, false)
	case lost, settled:
		f.guards.end(m.ID, m.State == lost)
	}
	return nil
}

// pass passes a connection to the agent that has offered to take it.
func (f *forwarder) pass(fd int, to handedOn) {
	sent, err := handover.Send(to.Socket, to.Token, fd, to.Early)
	_ = unix.Close(fd)
	f.guards.passed(to.Guarded, sent)
	// A frontend that is gone needs no answer.
	if err != nil {
		_ = f.channel.Tell(answer{ID: to.ID, Error: err.Error(), Sent: sent})
	} else if to.Tell {
		_ = f.channel.Tell(answer{ID: to.ID, Sent: true})
	}
}

// guard guards a request, if there is room.
func (f *forwarder) guard(fd int, request handedOn) {
	told := answer{ID: request.ID}
	if !f.guards.add(request.Guarded, fd, request.Guard, f.mostHeld) {
		_ = unix.Close(fd)
		told.Error = "the forwarder holds too many clients"
	}
	_ = f.channel.Tell(told)
}

// awaitRead reports to the frontend once a client has read the header of its
// answer.
func (f *forwarder) awaitRead(fd, id int) {
	told := answer{ID: id}
	if conn, err := handover.ConnectionOf(fd); err != nil {
		told.Error = err.Error()
	} else {
		handover.AwaitRead(conn, f.headerLead)
		conn.Close() // closes our copy only, without a shutdown
	}
	_ = f.channel.Tell(told)
}
