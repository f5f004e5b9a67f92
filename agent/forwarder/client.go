package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// hangUp limits how long a client that was answered may take to close its end.
const hangUp = 10 * time.Second

var errNotPassed = errors.New("nobody takes the connection")

// client is a client that is answered by this process.
type client struct {
	handover.Chunks // of its answer's body

	head string
	// process is the client's PID; 0 if unknown.
	process int32
	gone    context.CancelFunc
	isHeld  func()
	// endWatch ends the watch for the client's leaving, during which nothing is
	// read.
	endWatch func()
	begun    bool
	left     <-chan struct{} // set once the answer has begun
	passed   atomic.Bool     // an agent has the connection
}

// newClient watches a client; its answer has a header. gone is called when the
// client leaves, isHeld once the frontend no longer has it.
func newClient(conn *net.UnixConn, head string, gone context.CancelFunc, isHeld func()) *client {
	c := &client{Chunks: handover.Chunks{Conn: conn}, head: head, gone: gone, isHeld: isHeld}
	c.endWatch = watch(conn, gone)
	return c
}

// begin writes the header, once, before everything else.
func (c *client) begin() {
	if c.begun {
		return // already written, before another backend was called
	}
	c.begun = true
	c.endWatch()
	_, _ = io.WriteString(c.Conn, c.head) // reads report a client that is gone
	c.isHeld()                            // fails if the frontend is gone, which then needs no answer
	c.left = handover.WatchLeave(c.Conn, c.leave)
}

func (c *client) leave() {
	if !c.passed.Load() {
		c.gone()
	}
}

// pass passes the connection to an agent, which writes the body. After
// errNotPassed it is still ours.
func (c *client) pass(offer *agentv1.HandOverOffer) error {
	raw, err := c.Conn.SyscallConn()
	if err != nil {
		return err
	}
	c.passed.Store(true)
	var failure error
	err = raw.Control(func(fd uintptr) { _, failure = handover.Send(offer.Socket, offer.Token, int(fd), nil) })
	if err = errors.Join(err, failure); err != nil {
		c.passed.Store(false)
		return fmt.Errorf("%w: %w", errNotPassed, err)
	}
	return c.Conn.Close() // only the agent holds it then: the client gets an error if the agent dies
}

// end ends the answer, and then the connection.
func (c *client) end() {
	if c.passed.Load() {
		return
	}
	_ = c.End()
	_ = c.Conn.CloseWrite()
	_ = c.Conn.SetReadDeadline(time.Now().Add(hangUp))
	<-c.left
}

// watch calls gone once a client has closed both directions. It reads nothing
// from the connection, which may go back to the frontend. The returned function
// ends the watch.
func watch(conn *net.UnixConn, gone func()) (end func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		if handover.AwaitHangUp(conn) {
			gone()
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-over
		_ = conn.SetReadDeadline(time.Time{})
	}
}
