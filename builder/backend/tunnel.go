package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// AcceptAt waits until a process of a container connects to a socket that its start has put into it, and returns the
// connection, which lasts at most until ctx ends.
func (c *Client) AcceptAt(ctx context.Context, id, socket string) (*Connection, error) {
	opened, err := c.Containers.OpenTunnel(ctx, connect.NewRequest(&backendv1.OpenTunnelRequest{Container: id, Access: reach(nil)}))
	if err != nil {
		return nil, err
	}
	agent, done, err := c.agentOf(opened.Msg.Endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	conn := &Connection{stream: agent.Tunnel(ctx), end: func() { cancel(); done() }}
	go beat(ctx, conn.send, &agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	err = conn.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Open{Open: &agentv1.TunnelOpen{Socket: socket}}})
	if err == nil {
		err = conn.wait()
	}
	if err != nil {
		conn.end()
		return nil, err
	}
	return conn, nil
}

// Connection is a connection made by a process of a container. One reader and one writer may use it concurrently.
type Connection struct {
	stream *connect.BidiStreamForClient[agentv1.TunnelRequest, agentv1.TunnelResponse]
	end    func()

	left      []byte
	received  uint64
	readEnded atomic.Bool

	sending    sync.Mutex
	sent       uint64
	writeEnded atomic.Bool
	closing    sync.Once
}

func (c *Connection) send(message *agentv1.TunnelRequest) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(message)
}

// wait waits for the process to connect.
func (c *Connection) wait() error {
	for {
		message, err := c.next()
		if err != nil {
			return err
		}
		if message.GetOpened() != nil {
			return nil
		}
	}
}

func (c *Connection) next() (*agentv1.TunnelResponse, error) {
	message, err := c.stream.Receive()
	if errors.Is(err, io.EOF) {
		return nil, errCut
	}
	if failure := message.GetError(); err == nil && failure != nil {
		return nil, errors.New(failure.Message)
	}
	return message, err
}

// Read reads the process's data.
func (c *Connection) Read(into []byte) (int, error) {
	for len(c.left) == 0 {
		message, err := c.next()
		if err != nil {
			return 0, err
		}
		if message.GetEnd() != nil {
			c.readEnded.Store(true)
			return 0, io.EOF
		}
		data := message.GetData()
		if data.GetOffset() != c.received && data != nil {
			return 0, fmt.Errorf("bytes of a connection are missing: %w", io.ErrUnexpectedEOF)
		}
		c.left = data.GetData()
		c.received += uint64(len(c.left))
	}
	n := copy(into, c.left)
	c.left = c.left[n:]
	return n, nil
}

// Write writes data for the process, at most 1 MiB at once.
func (c *Connection) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	err := c.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Data{Data: &agentv1.TunnelData{Offset: c.sent, Data: data}}})
	if err != nil {
		return 0, err
	}
	c.sent += uint64(len(data))
	return len(data), nil
}

// CloseWrite lets the process read the end.
func (c *Connection) CloseWrite() error {
	err := c.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_End{End: &agentv1.TunnelEnd{TotalBytes: c.sent}}})
	c.writeEnded.Store(err == nil)
	return err
}

// Close cancels unfinished directions; if both have ended, it waits until the process has received everything. It may
// be called more than once, also concurrently.
func (c *Connection) Close() error {
	c.closing.Do(func() {
		for c.readEnded.Load() && c.writeEnded.Load() {
			if _, err := c.stream.Receive(); err != nil {
				break
			}
		}
		c.end()
	})
	return nil
}
