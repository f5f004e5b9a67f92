package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// farewell limits how long a client that does not read may take for the last
	// message.
	farewell = 2 * time.Second
	// hangUp limits how long a client may take to close its end. What it still
	// sends is read, as unread bytes would turn the close into a reset.
	hangUp = 10 * time.Second
	// HeaderLead limits the wait until a client has read the header of its
	// answer, after which output follows. Clients in Python and Java read the
	// header through a buffer, and drop what arrives with it.
	HeaderLead = time.Second
	// bufferSize is the size of one read from a client.
	bufferSize = 64 << 10
)

// recordLimit bounds the wait for the backend to record an end; a variable, so
// that tests need not wait as long.
var recordLimit = 30 * time.Second

// headerLead is HeaderLead; a variable, so that tests on a busy machine have longer.
var headerLead = HeaderLead

// Streams of Docker's frames.
const (
	stdout      byte = 1
	stderr      byte = 2
	systemError byte = 3 // clients take it for an error
)

var (
	buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

	errDetached = errors.New("the detach keys were typed")
)

// Session is one exec or attachment (see session.Session).
type Session interface {
	Next(context.Context) (*agentv1.SessionResponse, error)
	WriteStdin(context.Context, []byte) error
	// SpliceStdin moves the content of a connection's descriptor without copying
	// it. It returns the number of bytes, and whether more can be moved this way;
	// otherwise WriteStdin must be used.
	SpliceStdin(ctx context.Context, connection int) (moved int, able bool, err error)
	CloseStdin()
	Leave()
	Close()
	// AwaitRecord waits until the backend has recorded the end of the session,
	// which clients query next.
	AwaitRecord(context.Context) error
	// TellDetached reports to the backend that the client has detached by its
	// keys.
	TellDetached(context.Context) error
}

// Way is how a session is presented to its client.
type Way struct {
	Multiplexed bool   // output has Docker's headers
	DetachKeys  []byte // empty: the client cannot detach
	Stdin       bool   // the client's input goes to the process; otherwise it is dropped
}

// FrameHeader is Docker's header of a frame.
func FrameHeader(stream byte, length int) (header [8]byte) {
	header[0] = stream
	binary.BigEndian.PutUint32(header[4:], uint32(length))
	return header
}

// carrier carries one client's bytes.
type carrier struct {
	client  Client
	session Session
	way     Way
	ctx     context.Context
	cancel  context.CancelCauseFunc

	header  [8]byte
	wrote   func(int) // reports progress
	begun   bool      // the client has read its answer's header, or the wait for that is over
	carried agentv1.SessionCarried

	mu         sync.Mutex
	deaf       bool // the client takes no more output
	inputEnded bool
}

// Carry carries a client's bytes until the session ends or the client leaves, and
// closes the connection. It returns the number of bytes carried, and the last
// message.
func Carry(client Client, session Session, way Way) (*agentv1.SessionCarried, *agentv1.SessionResponse) {
	c := &carrier{client: client, session: session, way: way}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	defer c.cancel(nil)
	wrote, done := client.begin()
	defer done()
	c.wrote = wrote
	received := make(chan struct{})
	go func() {
		defer close(received)
		c.input()
	}()
	go func() {
		select {
		case <-client.Leaving:
			_ = client.takeMore() // otherwise the client must read during the wait below
		case <-c.ctx.Done():
		}
	}()
	last := c.output()
	c.cancel(nil)
	_ = client.Conn.SetReadDeadline(time.Unix(1, 0)) // ends a pending read
	<-received
	last = c.end(last)
	go drop(client.Conn)
	return &c.carried, last
}

// output moves the process's output, and returns the last message; nil if the
// client has typed its detach keys.
func (c *carrier) output() *agentv1.SessionResponse {
	for c.ctx.Err() == nil { // checked here, as a session with continuous output does not check
		response, err := c.session.Next(c.ctx)
		if err != nil {
			return nil
		}
		switch message := response.Message.(type) {
		case *agentv1.SessionResponse_Stdout:
			c.write(stdout, message.Stdout.Data)
		case *agentv1.SessionResponse_Stderr:
			c.write(stderr, message.Stderr.Data)
		case *agentv1.SessionResponse_Exit, *agentv1.SessionResponse_Error, *agentv1.SessionResponse_Detached:
			return response
		}
	}
	return nil
}

// write sends output to the client, waiting as long as it does not read. A client
// that takes no more output may still have sent input to be read.
func (c *carrier) write(stream byte, data []byte) {
	if c.isDeaf() {
		return
	}
	if err := c.framed(stream, data); err != nil {
		c.mu.Lock()
		c.deaf = true
		gone := !c.way.Stdin || c.inputEnded
		c.mu.Unlock()
		if gone {
			c.session.Leave()
		}
		return
	}
	c.carried.OutputBytes += uint64(len(data))
	c.wrote(len(data))
	memory.Moved(len(data))
}

func (c *carrier) isDeaf() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deaf
}

// awaitHeader waits, once, until the client has read the header of its answer, or
// a time limit has passed.
func (c *carrier) awaitHeader() {
	if !c.begun {
		c.begun = true
		AwaitRead(c.client.Conn, headerLead)
	}
}

func (c *carrier) framed(stream byte, data []byte) error {
	c.awaitHeader()
	if !c.way.Multiplexed {
		_, err := c.client.Conn.Write(data)
		return err
	}
	c.header = FrameHeader(stream, len(data))
	frame := net.Buffers{c.header[:], data}
	_, err := frame.WriteTo(c.client.Conn)
	return err
}

// end reports to the client how the session ended, once the backend knows. It
// returns the session's last message.
func (c *carrier) end(last *agentv1.SessionResponse) *agentv1.SessionResponse {
	ctx, cancel := context.WithTimeoutCause(context.Background(), recordLimit,
		errors.New("the backend has not recorded the end of the stream in time"))
	defer cancel()
	if last == nil {
		c.session.Close()
		if err := c.session.TellDetached(ctx); err != nil {
			return c.cut(err.Error())
		}
		last = &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Detached{Detached: &agentv1.SessionDetached{}}}
	}
	switch message := last.Message.(type) {
	case *agentv1.SessionResponse_Exit:
		if err := c.session.AwaitRecord(ctx); err != nil {
			return c.cut(err.Error())
		}
	case *agentv1.SessionResponse_Error:
		// The error of a failed start is answered to the client that requested
		// it.
		if message.Error.Reason != agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED {
			c.cut(message.Error.Message)
			return last
		}
	}
	_ = c.client.Conn.CloseWrite()
	return last
}

// cut writes the error into the stream, and closes both directions at once, so
// that it is not taken for the end of the stream.
func (c *carrier) cut(text string) *agentv1.SessionResponse {
	c.awaitHeader()
	_ = c.client.Conn.SetWriteDeadline(time.Now().Add(farewell))
	_ = c.framed(systemError, []byte(text+"\r\n"))
	_ = c.client.Conn.CloseWrite()
	_ = c.client.Conn.CloseRead()
	return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Error{Error: &agentv1.SessionError{
		Reason: agentv1.SessionErrorReason_SESSION_ERROR_REASON_INTERNAL, Message: text,
	}}}
}

// drop reads what a client still sends until it closes its end, and then closes
// ours.
func drop(conn *net.UnixConn) {
	defer conn.Close()
	if conn.SetReadDeadline(time.Now().Add(hangUp)) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
