package mirror

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// turns is a connection that is not read while it is written to.
type turns struct {
	net.Conn
	writing sync.Mutex
}

func (c *turns) Read(p []byte) (int, error) {
	c.writing.Lock() // until no write waits
	c.writing.Unlock()
	return c.Conn.Read(p)
}

func (c *turns) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.Conn.Write(p)
}

// madeConns is a listener with connections that a test makes.
type madeConns struct{ made chan net.Conn }

func (l madeConns) Accept() (net.Conn, error) {
	if conn, isOpen := <-l.made; isOpen {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l madeConns) Close() error   { return nil }
func (l madeConns) Addr() net.Addr { return &net.UnixAddr{} }

func TestALinkReadsWhateverItsAgentHasNotReadYet(t *testing.T) {
	t.Parallel()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	assert.NilError(t, err)
	defer packets.Close()
	go func() {
		for buffer := make([]byte, 1200); ; {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buffer, from)
		}
	}()
	agent, own := selfSigned(t, time.Now().Add(time.Hour)), selfSigned(t, time.Now().Add(time.Hour))
	listener := madeConns{make(chan net.Conn)}
	handler := server.NewHandler(func(context.Context, string) (server.Container, error) {
		return &served{table: &agentv1.ListenerTable{}}, nil
	})
	web := server.ForNeighbours(server.NewServer(handler, slog.New(slog.NewTextHandler(io.Discard, nil))), 100)
	defer web.Close()
	go web.Serve(listener)
	defer close(listener.made)
	pin := sha256.Sum256(agent.Leaf.RawSubjectPublicKeyInfo)
	link := newLink(Partner{Pin: pin[:]}, own.PrivateKey, func() [][]byte { return own.Certificate }, "x", patience, func(context.Context) (net.Conn, error) {
		near, far := net.Pipe() // in which nothing is buffered
		secure := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{agent}, NextProtos: []string{"h2"}})
		go func() { listener.made <- &turns{Conn: secure} }()
		return near, nil
	})
	defer link.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	assert.ErrorIs(t, link.Follow(ctx, func(Listeners) { cancel() }), context.Canceled)
	exchange := link.Exchange(t.Context(), netip.MustParseAddrPort(packets.LocalAddr().String()))
	defer exchange.Close()
	_ = exchange.SetReadDeadline(time.Now().Add(patience))
	answered := make(chan error, 1)
	go func() {
		for range 5000 {
			if _, err := exchange.Read(make([]byte, 1200)); err != nil {
				answered <- err
				return
			}
		}
		answered <- nil
	}()
	for {
		select {
		case err := <-answered:
			assert.Check(t, err)
			return
		default:
			_, _ = exchange.Write(make([]byte, 10))
		}
	}
}
