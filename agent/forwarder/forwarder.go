// Package forwarder is the process beside a frontend: it passes clients' connections
// on to the agents of their containers, which a Node process cannot do itself, and
// holds those whose answer is the end of a container, or a log that is followed, so
// that they outlive the frontend. It also sees when a client has read what was
// written to it. It listens nowhere and starts nothing.
//
// The frontend talks to it over Node's IPC channel: lines of JSON, and a descriptor
// with each message that has a handle (`child.send(message, handle)`).
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

// message is one line from the frontend: with a descriptor, or what becomes of a
// guarded request.
type message struct {
	Command string   `json:"cmd"`
	Handed  handedOn `json:"msg"`
	ID      int      `json:"guarded"`
	State   string   `json:"state"`
}

// States of a guarded request, of which no other message tells.
const (
	begun   = "begun"
	lost    = "lost"
	settled = "settled"
)

// handedOn says where a connection goes, and what was read of it.
type handedOn struct {
	ID     int    `json:"id"`
	Socket string `json:"socket"`
	Token  string `json:"token"`
	Early  []byte `json:"early"` // base64
	Tell   bool   `json:"tell"`  // say also that it was passed on
	Held   *held  `json:"held"`  // it stays here
	Read   bool   `json:"read"`  // it stays the frontend's, which waits until all was read
	Guard  *guard `json:"guard"` // it stays the frontend's, which says what becomes of its request
	// Guarded is the ID of a guarded request.
	Guarded int `json:"guarded"`
}

// answer tells of a connection that was not passed on, or not with all that was
// read of it. Sent says that somebody else has it, or may; else it is the
// frontend's still. One without an error is of a connection that is held, that was
// passed on where that is to be told, or whose client has been given time to read.
type answer struct {
	ID    int    `json:"id"`
	Error string `json:"error"`
	Sent  bool   `json:"sent"`
}

// Main is `sockerless-agent forwarder`. It answers the process's exit code, once the
// frontend is gone, what it has sent is passed on, and nobody waits any more.
func Main([]string) int {
	memory.BeSmall()
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	// Signals of a terminal, and of a stop, are the frontend's to follow.
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
	// The other half is for connections that are passed on, and for calls.
	return &forwarder{channel: channel, transport: newTransport(), mostHeld: int64(files.Cur / 2), headerLead: handover.HeaderLead}, nil
}

// missing stands for a descriptor for which this process had no room.
const missing = -1

// forwarder serves one frontend.
type forwarder struct {
	channel   *net.UnixConn
	handles   []int // received, and not yet claimed by their messages: missing ones too
	transport http.RoundTripper
	writing   sync.Mutex
	passing   sync.WaitGroup
	mostHeld  int64
	holding   atomic.Int64
	guards    guards
	// headerLead is how long a client is given to read the header of its answer.
	headerLead time.Duration
	// frontend ends once that is gone.
	frontend context.Context
}

// run serves the frontend until it is gone. Clients may be held longer.
func (f *forwarder) run() error {
	frontend, leave := context.WithCancel(context.Background())
	f.frontend = frontend
	defer leave()
	defer f.channel.Close() // a frontend that is still there starts another forwarder
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
		// Node sends the next one only then.
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

// pass gives a connection to the agent that has offered to take it.
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

// guard looks after a request, if there is room.
func (f *forwarder) guard(fd int, request handedOn) {
	told := answer{ID: request.ID}
	if !f.guards.add(request.Guarded, fd, request.Guard, f.mostHeld) {
		_ = unix.Close(fd)
		told.Error = "the forwarder holds too many clients"
	}
	_ = f.tell(told)
}

// awaitRead tells the frontend once a client has read the header of its answer.
func (f *forwarder) awaitRead(fd, id int) {
	told := answer{ID: id}
	if conn, err := handover.ConnectionOf(fd); err != nil {
		told.Error = err.Error()
	} else {
		handover.AwaitRead(conn, f.headerLead)
		conn.Close() // ours alone: it is not shut down
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

// readerWithHandles reads the channel, and keeps the descriptors that come along in
// their order.
type readerWithHandles struct{ *forwarder }

func (r readerWithHandles) Read(p []byte) (int, error) {
	control := make([]byte, handover.ControlSpace)
	n, controlled, flags, _, err := r.channel.ReadMsgUnix(p, control) // closed at an execution
	if err != nil {
		return 0, err
	}
	isCut := flags&unix.MSG_CTRUNC != 0 // nothing is controlled then where there was one descriptor
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
