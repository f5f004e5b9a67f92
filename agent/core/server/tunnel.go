package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Reachable is a Container with ports that can be reached through its agent.
type Reachable interface {
	// DialPort connects to a port as the container sees it. network is "tcp" or
	// "udp". ctx is for connecting only. A datagram socket is closed when the
	// container ends, which it would not notice by itself.
	DialPort(ctx context.Context, network string, address netip.AddrPort) (net.Conn, error)
}

// Called is a Container whose processes connect to sockets that its start has put
// into it.
type Called interface {
	// AcceptAt waits for the next connection to a socket.
	AcceptAt(ctx context.Context, socket string) (net.Conn, error)
}

const (
	// tunnelBuffer is the read size of a connection, and holds any datagram. Other
	// containers may hold many tunnels open; 256 KiB are a tenth faster.
	tunnelBuffer = 64 << 10
	// tunnelDialTimeout bounds the wait for the other side to accept.
	tunnelDialTimeout = 10 * time.Second
)

var tunnelBuffers = sync.Pool{New: func() any { return new([tunnelBuffer]byte) }}

type tunnelStream = connect.BidiStream[agentv1.TunnelRequest, agentv1.TunnelResponse]

// Tunnel carries one connection to, or from, the container.
func (s *service) Tunnel(ctx context.Context, stream *tunnelStream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	container, err := s.container(ctx, stream.RequestHeader())
	if err != nil {
		return wireError(err)
	}
	first, err := firstMessage(ctx, cancel, stream.Receive)
	if err != nil {
		return err
	}
	connection, datagrams, err := connectionOf(container, first.GetOpen())
	if err != nil {
		return err
	}
	out := newSender(stream.Send, func() *agentv1.TunnelResponse {
		return &agentv1.TunnelResponse{Message: &agentv1.TunnelResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	conn, err := connection(ctx)
	if err != nil && ctx.Err() != nil {
		return wireError(context.Cause(ctx))
	}
	if err != nil {
		return out.finish(tunnelError(err, agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_UNREACHABLE))
	}
	t := &tunnel{ctx: ctx, cancel: cancel, stream: stream, conn: conn, datagrams: datagrams, body: bulkOf(ctx)}
	return wireError(t.run(out))
}

// connectionOf returns a function that dials or accepts the tunnel's connection.
func connectionOf(container Container, open *agentv1.TunnelOpen) (connection func(context.Context) (net.Conn, error), datagrams bool, err error) {
	if open.GetSocket() != "" {
		called, err := optional[Called](container, "Tunnel from a socket")
		if err != nil {
			return nil, false, err
		}
		return func(ctx context.Context) (net.Conn, error) { return called.AcceptAt(ctx, open.Socket) }, false, nil
	}
	reachable, err := optional[Reachable](container, "Tunnel")
	if err != nil {
		return nil, false, err
	}
	network, address, err := tunnelTarget(open)
	if err != nil {
		return nil, false, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		ctx, stop := context.WithTimeout(ctx, tunnelDialTimeout)
		defer stop()
		return reachable.DialPort(ctx, network, address)
	}, network == "udp", nil
}

func tunnelTarget(open *agentv1.TunnelOpen) (network string, address netip.AddrPort, err error) {
	switch open.GetProtocol() {
	case agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP:
		network = "tcp"
	case agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP:
		network = "udp"
	default:
		return "", address, errors.New("a tunnel's first message must open it, with a protocol")
	}
	if open.Port < 1 || open.Port > 65535 {
		return "", address, fmt.Errorf("port %d is out of range", open.Port)
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if open.Host != "" {
		if host, err = netip.ParseAddr(open.Host); err != nil {
			return "", address, fmt.Errorf("%q is no address", open.Host)
		}
	}
	return network, netip.AddrPortFrom(host, uint16(open.Port)), nil
}

// tunnel is an open tunnel, with a goroutine for each direction.
type tunnel struct {
	ctx       context.Context
	cancel    context.CancelCauseFunc
	stream    *tunnelStream
	conn      net.Conn
	datagrams bool
	body      *bulkBody // nil: every message comes as an object
	received  uint64    // bytes from the caller

	mu     sync.Mutex
	broken error // why the connection broke while the caller's data was written
}

// run moves data both ways until both directions have ended. Any other end resets
// the connection.
func (t *tunnel) run(out *sender[agentv1.TunnelResponse]) (err error) {
	stop := context.AfterFunc(t.ctx, t.reset)
	defer func() {
		if stop(); err != nil || t.ctx.Err() != nil {
			t.reset()
		} else {
			t.conn.Close()
		}
	}()
	if err := out.Send(&agentv1.TunnelResponse{Message: &agentv1.TunnelResponse_Opened{Opened: &agentv1.TunnelOpened{}}}); err != nil {
		return err
	}
	inward := make(chan struct{})
	go func() { // ends with this call at the latest, which fails its Receive
		defer close(inward)
		t.moveIn()
	}()
	sent, err := t.moveOut(out)
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	if err != nil {
		return out.finish(t.failure(err))
	}
	end := &agentv1.TunnelResponse{Message: &agentv1.TunnelResponse_End{End: &agentv1.TunnelEnd{TotalBytes: sent}}}
	if t.datagrams { // they have no half-close
		return out.finish(end)
	}
	if err := out.Send(end); err != nil {
		return err
	}
	select {
	case <-inward:
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
	if err := t.brokenBy(); err != nil {
		return out.finish(t.failure(err))
	}
	return nil
}

func (t *tunnel) brokenBy() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}

// failure is the last message of a broken connection. The first reason is the
// real one: a failed write makes the reads fail too.
func (t *tunnel) failure(err error) *agentv1.TunnelResponse {
	if broken := t.brokenBy(); broken != nil {
		err = broken
	}
	return tunnelError(err, agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_RESET)
}

// moveOut sends the connection's data until its end.
func (t *tunnel) moveOut(out *sender[agentv1.TunnelResponse]) (sent uint64, err error) {
	buffer := tunnelBuffers.Get().(*[tunnelBuffer]byte)
	defer tunnelBuffers.Put(buffer)
	for {
		n, err := t.conn.Read(buffer[:])
		if n > 0 || err == nil && t.datagrams {
			data := &agentv1.TunnelData{Offset: sent, Data: buffer[:n]}
			sent += uint64(n)
			memory.Moved(n)
			if err := out.Send(&agentv1.TunnelResponse{Message: &agentv1.TunnelResponse_Data{Data: data}}); err != nil {
				t.cancel(err)
				return sent, err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), t.datagrams && errors.Is(err, net.ErrClosed):
			return sent, nil
		case t.datagrams && errors.Is(err, unix.ECONNREFUSED):
			// No listener yet, or no longer: datagrams may be lost.
		default:
			return sent, err
		}
	}
}

// moveIn writes the caller's data until its end.
func (t *tunnel) moveIn() {
	for t.receive() {
	}
}

// receive handles one message. It reports whether more may follow.
func (t *tunnel) receive() bool {
	offset, length, bulk := t.body.next(t.cancel)
	if bulk {
		return t.follows(offset) && t.moveData(length)
	}
	request, err := receiveAlive(t.cancel, t.stream.Receive)
	if errors.Is(err, io.EOF) {
		err = connect.NewError(connect.CodeDataLoss, errors.New("the tunnel was cut: the caller's end is missing"))
	}
	if err != nil {
		t.cancel(err)
		return false
	}
	switch message := request.Message.(type) {
	case *agentv1.TunnelRequest_Data:
		return t.follows(message.Data.Offset) && t.write(message.Data.Data)
	case *agentv1.TunnelRequest_End:
		t.endIn(message.End.TotalBytes)
		return false
	case *agentv1.TunnelRequest_Heartbeat:
		return true
	}
	t.cancel(connect.NewError(connect.CodeInvalidArgument, errors.New("a tunnel is opened once")))
	return false
}

// follows checks that no byte before offset is missing.
func (t *tunnel) follows(offset uint64) bool {
	if offset != t.received {
		t.cancel(connect.NewError(connect.CodeDataLoss, errors.New("bytes of the tunnel are missing")))
		return false
	}
	return true
}

// moveData writes a bulk message's data: a datagram as a whole, stream data as it
// arrives.
func (t *tunnel) moveData(length int) bool {
	buffer := tunnelBuffers.Get().(*[tunnelBuffer]byte)
	defer tunnelBuffers.Put(buffer)
	if t.datagrams && length > len(buffer) {
		t.cancel(connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a datagram of %d bytes", length)))
		return false
	}
	filled := 0
	for length > 0 {
		n, err := t.body.data(t.cancel, buffer[filled:])
		if err != nil {
			t.cancel(err)
			return false
		}
		length -= n
		if filled += n; length > 0 && (t.datagrams || filled < len(buffer)/2) {
			continue
		}
		if !t.write(buffer[:filled]) {
			return false
		}
		filled = 0
	}
	return true
}

// write blocks while the other side does not read. False: no more can be written.
func (t *tunnel) write(data []byte) bool {
	t.received += uint64(len(data))
	memory.Moved(len(data))
	_, err := t.conn.Write(data)
	if err == nil || t.datagrams { // which may be lost
		return true
	}
	t.mu.Lock()
	t.broken = err
	t.mu.Unlock()
	t.reset() // so that the other direction ends too
	return false
}

// endIn closes the connection's write side after the caller's end.
func (t *tunnel) endIn(total uint64) {
	switch conn := t.conn.(type) {
	case interface{ CloseWrite() error }:
		if total != t.received {
			t.cancel(connect.NewError(connect.CodeDataLoss, errors.New("the tunnel's length is not as told")))
			return
		}
		_ = conn.CloseWrite() // if the connection broke, its reader reports it
	default:
		_ = t.conn.Close()
	}
}

// reset breaks the connection, so that the other side sees no orderly end.
func (t *tunnel) reset() {
	if conn, ok := t.conn.(interface{ SetLinger(int) error }); ok {
		_ = conn.SetLinger(0)
	}
	_ = t.conn.Close()
}

func tunnelError(err error, otherwise agentv1.TunnelErrorReason) *agentv1.TunnelResponse {
	reason := otherwise
	if errors.Is(err, unix.ECONNREFUSED) {
		reason = agentv1.TunnelErrorReason_TUNNEL_ERROR_REASON_REFUSED
	}
	return &agentv1.TunnelResponse{Message: &agentv1.TunnelResponse_Error{Error: &agentv1.TunnelError{Reason: reason, Message: err.Error()}}}
}
