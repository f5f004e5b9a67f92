package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// hangUp is how long a client that was answered may take to close its end.
const hangUp = 10 * time.Second

var errNotPassed = errors.New("nobody takes the connection")

// client is one that is answered here.
type client struct {
	handover.Chunks // of its answer's body

	head string
	// process is the client's; 0: it is not known.
	process int32
	gone    context.CancelFunc
	isHeld  func()
	// endWatch ends the watch for its leaving, in which nothing is read.
	endWatch func()
	begun    bool
	left     <-chan struct{} // once it is begun
	passed   atomic.Bool     // it is an agent's
}

// newClient watches a client, whose answer has a header. gone is called when it
// leaves, isHeld once it is not the frontend's any more.
func newClient(conn *net.UnixConn, head string, gone context.CancelFunc, isHeld func()) *client {
	c := &client{Chunks: handover.Chunks{Conn: conn}, head: head, gone: gone, isHeld: isHeld}
	c.endWatch = watch(conn, gone)
	return c
}

// begin writes the header, once. It precedes everything that is written.
func (c *client) begin() {
	if c.begun {
		return // at another backend
	}
	c.begun = true
	c.endWatch()
	_, _ = io.WriteString(c.Conn, c.head) // a client that is gone is told of by what is read of it
	c.isHeld()                            // a frontend that is gone needs no answer
	c.left = handover.WatchLeave(c.Conn, c.leave)
}

func (c *client) leave() {
	if !c.passed.Load() {
		c.gone()
	}
}

// pass gives the connection to an agent, which writes the body. It is still ours
// after errNotPassed.
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
	return c.Conn.Close() // where the agent dies its client is to hear
}

// end ends the answer, and in the end the connection.
func (c *client) end() {
	if c.passed.Load() {
		return
	}
	_ = c.End()
	_ = c.Conn.CloseWrite()
	_ = c.Conn.SetReadDeadline(time.Now().Add(hangUp))
	<-c.left
}

// watch calls gone once a client has closed its end altogether, and reads nothing
// of the connection, which may be the frontend's again. What it answers ends that.
func watch(conn *net.UnixConn, gone func()) (end func()) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return func() {}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		if raw.Read(isHungUp) == nil { // asks again at each event
			gone()
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-over
		_ = conn.SetReadDeadline(time.Time{})
	}
}

// isHungUp tells a client that is gone from one that sends no more, and may read.
func isHungUp(fd uintptr) bool {
	polled := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(polled, 0)
	return err == nil && polled[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
