// Package nodechannel is Node's IPC channel, for a child of a Node process: lines
// of JSON, with a descriptor for each message that has a handle
// (`child.send(message, handle)`).
package nodechannel

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/descriptors"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
)

// channelVariable names the descriptor of the channel.
const channelVariable = "NODE_CHANNEL_FD"

// Messages of Node's own on the channel (lib/internal/child_process.js).
const (
	WithHandle   = "NODE_HANDLE"
	Acknowledged = "NODE_HANDLE_ACK"
	refused      = "NODE_HANDLE_NACK"
	// native is the type of a handle that nothing is wrapped around.
	native = "net.Native"
)

// Missing stands for a descriptor that this process had no room for.
const Missing = -1

// Envelope is a message that has a handle, or one of Node's own.
type Envelope struct {
	Command string          `json:"cmd"`
	Type    string          `json:"type,omitempty"`
	Message json.RawMessage `json:"msg,omitempty"`
}

// Received is a message from Node.
type Received struct {
	Message json.RawMessage
	HasFD   bool
	FD      int // Missing, or a descriptor that is the receiver's
}

// Channel is the channel to the parent process.
type Channel struct {
	conn    *net.UnixConn
	lines   *bufio.Reader
	handles []int // received, and not yet claimed by their messages, missing ones included
	writing sync.Mutex
	giving  sync.Mutex
	taken   chan bool
	over    chan struct{}
}

// Run is a small process beside a Node process, which handles signals of a
// terminal and of a stop. It serves the channel, logs a failure by what it means,
// and returns the exit code.
func Run(failure string, serve func(*Channel) error) int {
	memory.BeSmall()
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	channel, err := Open()
	if err == nil {
		err = serve(channel)
	}
	if err != nil {
		slog.Error(failure, "error", err)
		return 1
	}
	return 0
}

// Open opens the channel that this process was given, and closes all else that it
// has inherited.
func Open() (*Channel, error) {
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
	return New(channel), nil
}

// New makes a channel of a connection.
func New(conn *net.UnixConn) *Channel {
	c := &Channel{conn: conn, taken: make(chan bool, 1), over: make(chan struct{})}
	c.lines = bufio.NewReader(readerWithHandles{c})
	return c
}

// Next returns the parent's next message; io.EOF once the parent is gone. It is
// called by one goroutine, which also lets Give return.
func (c *Channel) Next() (Received, error) {
	for {
		line, err := c.lines.ReadBytes('\n')
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		var e Envelope
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil {
			return Received{}, err
		}
		switch e.Command {
		case Acknowledged, refused:
			select {
			case c.taken <- e.Command == Acknowledged:
			default: // nothing was given
			}
		case WithHandle:
			if len(c.handles) == 0 {
				return Received{}, errors.New("a message came without its descriptor")
			}
			fd := c.handles[0]
			c.handles = c.handles[1:]
			// Node sends the next handle only after this; one that is gone needs none.
			_ = c.Tell(Envelope{Command: Acknowledged})
			return Received{Message: e.Message, HasFD: true, FD: fd}, nil
		default:
			return Received{Message: line}, nil
		}
	}
}

// Tell sends a message.
func (c *Channel) Tell(value any) error {
	return c.write(value, nil)
}

// Give sends a message with a descriptor, of which this process keeps its copy.
// It waits until the parent has it.
func (c *Channel) Give(value any, fd int) error {
	message, err := json.Marshal(value)
	if err != nil {
		return err
	}
	c.giving.Lock() // one at a time, as Node does
	defer c.giving.Unlock()
	if err := c.write(Envelope{Command: WithHandle, Type: native, Message: message}, unix.UnixRights(fd)); err != nil {
		return err
	}
	select {
	case isTaken := <-c.taken:
		if !isTaken {
			return errors.New("the parent has no room for a descriptor")
		}
		return nil
	case <-c.over:
		return io.EOF
	}
}

func (c *Channel) write(value any, control []byte) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	c.writing.Lock()
	defer c.writing.Unlock()
	if control != nil {
		n, _, err := c.conn.WriteMsgUnix(line, control, nil)
		if err != nil {
			return err
		}
		line = line[n:]
	}
	_, err = c.conn.Write(line)
	return err
}

// Close closes the channel. Next must return no more messages.
func (c *Channel) Close() {
	close(c.over)
	c.conn.Close()
}

// readerWithHandles reads the channel, and stores received descriptors in order.
type readerWithHandles struct{ *Channel }

func (r readerWithHandles) Read(p []byte) (int, error) {
	control := make([]byte, handover.ControlSpace)
	n, controlled, flags, _, err := r.conn.ReadMsgUnix(p, control) // has the close-on-exec flag
	if err != nil {
		return 0, err
	}
	isCut := flags&unix.MSG_CTRUNC != 0 // then the control data is empty although there was a descriptor
	if controlled > 0 || isCut {
		fd, err := handover.OneDescriptor(control[:controlled], flags)
		if isCut {
			fd = Missing
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
