package mirror

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/ports"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// waitingDatagrams bounds the queued datagrams of one exchange; more are lost.
	waitingDatagrams = 256
	// waitingBytes bounds those of all exchanges with a partner.
	waitingBytes = 4 << 20
	// mostExchanges bounds the exchanges with a partner: its agent lets a connection
	// have 100 calls, Follow's among them, and a client that asks from a new port each
	// time leaves one behind for long.
	mostExchanges = 96
)

var errGivesWay = errors.New("it has been silent for longest of too many")

// exchange is a client's side of a datagram exchange.
type exchange struct {
	net.Conn // what comes, a datagram a read
	cancel   context.CancelCauseFunc
	link     *agentLink
	place    *list.Element // among the link's

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
	e := &exchange{Conn: near, cancel: cancel, link: l, out: make(chan []byte, waitingDatagrams)}
	l.add(e)
	go func() {
		defer e.end()
		defer far.Close()
		stop := context.AfterFunc(ctx, func() { far.Close() }) // interrupts a waiting write
		defer stop()
		cancel(l.exchange(ctx, cancel, e, far, to))
	}()
	return e
}

// add adds an exchange. Of too many the one ends that has been silent for longest.
func (l *agentLink) add(e *exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.place = l.exchanges.PushBack(e)
	if l.exchanges.Len() > mostExchanges {
		l.exchanges.Remove(l.exchanges.Front()).(*exchange).cancel(errGivesWay)
	}
}

// used notes that a datagram has come or gone.
func (e *exchange) used() {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	e.link.exchanges.MoveToBack(e.place)
}

// Write sends a datagram, or drops it.
func (e *exchange) Write(datagram []byte) (int, error) {
	e.used()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended && len(e.out) < cap(e.out) && e.link.waiting.TryAcquire(int64(len(datagram))) {
		e.out <- bytes.Clone(datagram)
	}
	return len(datagram), nil
}

// end drops what is queued.
func (e *exchange) end() {
	e.link.mu.Lock()
	e.link.exchanges.Remove(e.place)
	e.link.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	close(e.out)
	for datagram := range e.out {
		e.link.waiting.Release(int64(len(datagram)))
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
			e.link.waiting.Release(int64(len(datagram)))
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
			e.used()
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
