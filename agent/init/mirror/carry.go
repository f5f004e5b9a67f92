package mirror

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// carryBuffer is the read size of a connection.
const carryBuffer = 128 << 10

var carryBuffers = sync.Pool{New: func() any { return new([carryBuffer]byte) }}

// Carry forwards a connection's bytes through the partner's agent. A connection
// that the partner refuses, or that breaks there, is reset here.
func (l *agentLink) Carry(ctx context.Context, conn *net.TCPConn, to netip.AddrPort) {
	waited, cancelWait := context.WithTimeout(ctx, silenceLimit)
	err := l.carried.Acquire(waited, 1)
	cancelWait()
	if err != nil {
		_ = conn.SetLinger(0)
		conn.Close()
		return
	}
	defer l.carried.Release(1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, done := l.carrier()
	defer done()
	c := &carried{cancel: cancel, conn: conn, stream: client.Tunnel(ctx)}
	stop := context.AfterFunc(ctx, func() { // interrupts a waiting read or write
		_ = conn.SetLinger(0)
		conn.Close()
	})
	defer func() {
		if stop() {
			conn.Close()
		}
		_ = c.stream.CloseRequest()
		_ = c.stream.CloseResponse()
	}()
	if err := c.run(to); err != nil {
		cancel(err)
		_ = conn.SetLinger(0)
	}
}

// carried is one forwarded connection.
type carried struct {
	cancel context.CancelCauseFunc
	conn   *net.TCPConn
	stream *connect.BidiStreamForClient[agentv1.TunnelRequest, agentv1.TunnelResponse]

	mu    sync.Mutex // serialises sending
	ended bool       // nothing more is sent
}

func (c *carried) run(to netip.AddrPort) error {
	open := &agentv1.TunnelOpen{
		Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, Host: to.Addr().String(), Port: uint32(to.Port())}
	if err := c.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Open{Open: open}}); err != nil {
		return err
	}
	first, err := c.receive()
	if err != nil {
		return err
	}
	if first.GetOpened() == nil {
		return errors.New(first.GetError().GetMessage())
	}
	beats := time.NewTicker(heartbeatEvery)
	defer beats.Stop()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-beats.C:
				_ = c.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
			case <-done:
				return
			}
		}
	}()
	outward := make(chan error, 1)
	go func() {
		err := c.moveOut()
		if err != nil {
			c.cancel(err)
		}
		outward <- err
	}()
	if err := c.moveIn(); err != nil {
		c.cancel(err)
		<-outward
		return err
	}
	if err := <-outward; err != nil {
		return err
	}
	return c.over()
}

// over waits for the call's end once both directions have ended: cancelling it
// earlier would reset the partner's side.
func (c *carried) over() error {
	if err := c.stream.CloseRequest(); err != nil {
		return err
	}
	for {
		response, err := c.receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case response.GetError() != nil:
			return errors.New(response.GetError().Message)
		}
	}
}

// moveOut sends the connection's data until its end.
func (c *carried) moveOut() error {
	buffer := carryBuffers.Get().(*[carryBuffer]byte)
	defer carryBuffers.Put(buffer)
	var sent uint64
	for {
		n, err := c.conn.Read(buffer[:])
		if n > 0 {
			data := &agentv1.TunnelData{Offset: sent, Data: buffer[:n]}
			sent += uint64(n)
			memory.Moved(n)
			if err := c.send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Data{Data: data}}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return c.end(sent)
		}
		if err != nil {
			return err
		}
	}
}

// moveIn writes the partner's data until its end.
func (c *carried) moveIn() error {
	var received uint64
	for {
		response, err := c.receive()
		if err != nil {
			return err
		}
		switch message := response.Message.(type) {
		case *agentv1.TunnelResponse_Data:
			if message.Data.Offset != received {
				return errors.New("bytes of the tunnel are missing")
			}
			n, err := c.conn.Write(message.Data.Data)
			received += uint64(n)
			memory.Moved(n)
			if err != nil {
				return err
			}
		case *agentv1.TunnelResponse_End:
			if message.End.TotalBytes != received {
				return errors.New("the tunnel's length is not as told")
			}
			_ = c.conn.CloseWrite() // if the connection broke, its reader reports it
			return nil
		case *agentv1.TunnelResponse_Error:
			return errors.New(message.Error.Message)
		}
	}
}

func (c *carried) receive() (*agentv1.TunnelResponse, error) {
	silence := time.AfterFunc(silenceLimit, func() { c.cancel(errSilent) })
	defer silence.Stop()
	return c.stream.Receive()
}

func (c *carried) send(request *agentv1.TunnelRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	return c.stream.Send(request)
}

// end sends the last message.
func (c *carried) end(sent uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	return c.stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_End{End: &agentv1.TunnelEnd{TotalBytes: sent}}})
}
