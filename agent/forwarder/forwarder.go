// Package forwarder is the process beside a frontend: it passes clients'
// connections to the agents of their containers, which a Node process cannot do
// itself, and holds those that wait for the end of a container or follow a log,
// so that they outlive the frontend. It also detects when a client has read what
// was written to it. It listens nowhere and starts nothing.
//
// The frontend communicates with it over Node's IPC channel: lines of JSON, with
// a descriptor for each message that has a handle (`child.send(message,
// handle)`).
package forwarder

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/descriptors"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
)

// channelVariable names the descriptor of the IPC channel.
const channelVariable = "NODE_CHANNEL_FD"

// Messages of Node's own on the channel (lib/internal/child_process.js).
const (
	withHandle   = "NODE_HANDLE"
	acknowledged = "NODE_HANDLE_ACK"
)

// message is one line from the frontend: with a descriptor, or with the state of
// a guarded request.
type message struct {
	Command string   `json:"cmd"`
	Handed  handedOn `json:"msg"`
	ID      int      `json:"guarded"`
	State   string   `json:"state"`
}

// States of a guarded request, reported without a descriptor.
const (
	begun   = "begun"
	doubted = "doubted"
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
	memory.BeSmall()
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	// The frontend handles signals of a terminal, and of a stop.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	f, err := newForwarder()
	if err == nil {
		err = f.run()
	}
	code := 0
	if err != nil {
		slog.Error("no connections can be handed on", "error", err)
		code = 1
	}
	if f != nil {
		f.passing.Wait()
	}
	return code
}

func newForwarder() (*forwarder, error) {
	fd, err := strconv.Atoi(os.Getenv(channelVariable))
	if err != nil {
		return nil, err
	}
	if err := descriptors.CloseInherited(fd); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "channel")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return nil, err
	}
	channel, isUnix := conn.(*net.UnixConn)
	if !isUnix {
		return nil, errors.New("the channel is no unix socket")
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	// The other half is for passing on connections, and for calls.
	return &forwarder{channel: channel, transport: newTransport(), mostHeld: int64(files.Cur / 2), headerLead: handover.HeaderLead}, nil
}

// missing stands for a descriptor that this process had no room for.
const missing = -1

// forwarder serves one frontend.
type forwarder struct {
	channel   *net.UnixConn
	handles   []int // received, and not yet claimed by their messages, missing ones included
	transport http.RoundTripper
	writing   sync.Mutex
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
	lines := bufio.NewReader(readerWithHandles{f})
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		switch {
		case m.State == begun:
			f.guards.begin(m.ID, false)
		case m.State == doubted:
			f.guards.doubt(m.ID)
		case m.State == lost, m.State == settled:
			f.guards.end(m.ID, m.State == lost)
		}
		if m.Command != withHandle {
			continue
		}
		if len(f.handles) == 0 {
			return errors.New("a message came without its descriptor")
		}
		fd := f.handles[0]
		f.handles = f.handles[1:]
		// Node sends the next handle only after this.
		if err := f.tell(map[string]string{"cmd": acknowledged}); err != nil {
			slog.Debug("the frontend is gone", "error", err)
		}
		if fd == missing {
			_ = f.tell(answer{ID: m.Handed.ID, Error: "the forwarder has too many open files"})
			continue
		}
		if m.Handed.Guard != nil {
			f.guard(fd, m.Handed)
			continue
		}
		f.guards.begin(m.Handed.Guarded, true)
		f.passing.Add(1)
		go func() {
			defer f.passing.Done()
			switch {
			case m.Handed.Read:
				f.awaitRead(fd, m.Handed.ID)
			case m.Handed.Held != nil:
				f.hold(fd, m.Handed.ID, m.Handed.Held)
			default:
				f.pass(fd, m.Handed)
			}
		}()
	}
}

// pass passes a connection to the agent that has offered to take it.
func (f *forwarder) pass(fd int, to handedOn) {
	sent, err := handover.Send(to.Socket, to.Token, fd, to.Early)
	_ = unix.Close(fd)
	f.guards.passed(to.Guarded, sent)
	// A frontend that is gone needs no answer.
	if err != nil {
		_ = f.tell(answer{ID: to.ID, Error: err.Error(), Sent: sent})
	} else if to.Tell {
		_ = f.tell(answer{ID: to.ID, Sent: true})
	}
}

// guard guards a request, if there is room.
func (f *forwarder) guard(fd int, request handedOn) {
	told := answer{ID: request.ID}
	if !f.guards.add(request.Guarded, fd, request.Guard, f.mostHeld) {
		_ = unix.Close(fd)
		told.Error = "the forwarder holds too many clients"
	}
	_ = f.tell(told)
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
	_ = f.tell(told)
}

func (f *forwarder) tell(value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	_, err = f.channel.Write(append(line, '\n'))
	return err
}

// readerWithHandles reads the channel, and stores received descriptors in order.
type readerWithHandles struct{ *forwarder }

func (r readerWithHandles) Read(p []byte) (int, error) {
	control := make([]byte, handover.ControlSpace)
	n, controlled, flags, _, err := r.channel.ReadMsgUnix(p, control) // has the close-on-exec flag
	if err != nil {
		return 0, err
	}
	isCut := flags&unix.MSG_CTRUNC != 0 // then the control data is empty although there was a descriptor
	if controlled > 0 || isCut {
		fd, err := handover.OneDescriptor(control[:controlled], flags)
		if isCut {
			fd = missing
		} else if err != nil {
			return 0, err
		}
		r.handles = append(r.handles, fd)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
