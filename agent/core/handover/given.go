package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// grace is the time for a client that sends no more to take its answer: it looks
// the same as one that has closed both directions.
const grace = time.Second

var errLeft = errors.New("the client has left")

// Chunks writes the body of an answer as HTTP's chunks.
type Chunks struct{ Conn *net.UnixConn }

// lastChunk ends a body; an answer without it counts as cut off.
const lastChunk = "0\r\n\r\n"

func (c Chunks) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil // an empty chunk is the last one
	}
	chunk := net.Buffers{fmt.Appendf(nil, "%x\r\n", len(data)), data, []byte("\r\n")}
	if _, err := chunk.WriteTo(c.Conn); err != nil {
		return 0, err
	}
	return len(data), nil
}

// End marks the body as complete.
func (c Chunks) End() error {
	_, err := io.WriteString(c.Conn, lastChunk)
	return err
}

// Given writes the body of an answer whose header was already written. End must
// be called.
type Given struct {
	Written uint64

	chunks Chunks
	conn   *net.UnixConn
	wrote  func(int) // reports progress
	done   func()    // reports that nothing more is written
	left   <-chan struct{}
	over   chan struct{}
	lost   atomic.Bool
}

// Give begins a body. It is cancelled when the client leaves. What the client has
// not read when this process leaves is put into the kernel's buffer.
func Give(client Client, cancel context.CancelCauseFunc) *Given {
	g := &Given{chunks: Chunks{client.Conn}, conn: client.Conn, over: make(chan struct{})}
	g.wrote, g.done = client.begin()
	leave := func() {
		g.lost.Store(true)
		cancel(errLeft)
		g.Cut()
	}
	g.left = WatchLeave(client.Conn, leave)
	go func() {
		select {
		case <-client.Leaving:
			_ = client.takeMore() // otherwise a slow client is cut
		case <-g.over:
		}
	}()
	return g
}

// WatchLeave calls leave once the client that is being answered has left; its
// further input is dropped. left is closed when nothing can arrive any more.
func WatchLeave(conn *net.UnixConn, leave func()) (left <-chan struct{}) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		if _, err := io.Copy(io.Discard, conn); err != nil {
			leave()
		} else {
			time.AfterFunc(grace, leave)
		}
	}()
	return over
}

func (g *Given) Write(data []byte) (int, error) {
	n, err := g.chunks.Write(data)
	if err != nil {
		g.lost.Store(true)
	}
	g.Written += uint64(n)
	g.wrote(n)
	memory.Moved(n)
	return n, err
}

// Cut fails pending and further writes at once.
func (g *Given) Cut() { _ = g.conn.SetWriteDeadline(time.Unix(1, 0)) }

// Left reports whether the client has left before the end of the body.
func (g *Given) Left() bool { return g.lost.Load() }

// End ends the body, as incomplete after an error, and then the connection.
func (g *Given) End(err error) error {
	close(g.over)
	defer g.done()
	if err == nil {
		err = g.chunks.End()
	}
	if err != nil {
		g.conn.Close()
		return err
	}
	_ = g.conn.CloseWrite()
	go func() {
		defer g.conn.Close()
		_ = g.conn.SetReadDeadline(time.Now().Add(hangUp))
		<-g.left
	}()
	return nil
}
