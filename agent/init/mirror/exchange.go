package mirror

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sockerless/sockerless/agent/core/ports"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// waitingDatagrams bounds the queued datagrams of one exchange; more are lost.
	waitingDatagrams = 256
	// waitingBytes bounds those of all exchanges with a partner.
	waitingBytes = 4 << 20
)

// exchange is a client's side of a datagram exchange.
type exchange struct {
	net.Conn // what comes, a datagram a read
	cancel   context.CancelCauseFunc
	bytes    *semaphore.Weighted // of all queues

	mu    sync.Mutex
	out   chan []byte
	ended bool // nothing is queued any more
}

// Exchange forwards datagrams through the partner's agent. It never blocks: the
// tunnel opens while the first datagrams are queued. All exchanges share the
// connection of Follow, since none of them ever blocks another.
func (l *agentLink) Exchange(ctx context.Context, to netip.AddrPort) net.Conn {
	ctx, cancel := context.WithCancelCause(ctx)
	near, far := net.Pipe()
	e := &exchange{Conn: near, cancel: cancel, bytes: l.waiting, out: make(chan []byte, waitingDatagrams)}
	go func() {
		defer e.end()
		defer far.Close()
		stop := context.AfterFunc(ctx, func() { far.Close() }) // interrupts a waiting write
		defer stop()
		cancel(l.exchange(ctx, cancel, e, far, to))
	}()
	return e
}

// Write sends a datagram, or drops it.
func (e *exchange) Write(datagram []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended && len(e.out) < cap(e.out) && e.bytes.TryAcquire(int64(len(datagram))) {
		e.out <- bytes.Clone(datagram)
	}
	return len(datagram), nil
}

// end drops what is queued.
func (e *exchange) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	close(e.out)
	for datagram := range e.out {
		e.bytes.Release(int64(len(datagram)))
	}
}

// Close ends the exchange.
func (e *exchange) Close() error {
	e.cancel(net.ErrClosed)
	return e.Conn.Close()
}

// exchange runs until ctx or the partner's side ends.
func (l *agentLink) exchange(ctx context.Context, cancel context.CancelCauseFunc, e *exchange, in net.Conn, to netip.AddrPort) error {
	stream := l.client.Tunnel(ctx)
	defer func() {
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	}()
	open := &agentv1.TunnelOpen{
		Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP, Host: to.Addr().String(), Port: uint32(to.Port())}
	if err := stream.Send(&agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Open{Open: open}}); err != nil {
		return err
	}
	sent := make(chan struct{})
	defer func() { <-sent }()
	defer cancel(nil)
	go func() {
		defer close(sent)
		var offset uint64
		beats := time.NewTicker(heartbeatEvery)
		defer beats.Stop()
		for {
			request := &agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
			var datagram []byte
			select {
			case datagram = <-e.out:
				request = &agentv1.TunnelRequest{Message: &agentv1.TunnelRequest_Data{Data: &agentv1.TunnelData{Offset: offset, Data: datagram}}}
				offset += uint64(len(datagram))
			case <-beats.C:
			case <-ctx.Done():
				return
			}
			err := stream.Send(request)
			e.bytes.Release(int64(len(datagram)))
			if err != nil {
				return // the receiver gets the reason
			}
		}
	}()
	silence := time.AfterFunc(silenceLimit, func() { cancel(errSilent) })
	defer silence.Stop()
	for {
		response, err := stream.Receive()
		if err != nil {
			return err
		}
		silence.Reset(silenceLimit)
		switch message := response.Message.(type) {
		case *agentv1.TunnelResponse_Data:
			if err := ports.WriteReply(in, message.Data.Data); err != nil {
				return err
			}
		case *agentv1.TunnelResponse_End:
			return net.ErrClosed
		case *agentv1.TunnelResponse_Error:
			return errors.New(message.Error.Message)
		}
	}
}
