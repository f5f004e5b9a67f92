package server

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// byHand is a client's side of a connection of HTTP/2 to a server of
// ForNeighbours. Between them nothing is buffered.
type byHand struct {
	t *testing.T
	net.Conn
}

const (
	headersType, resetType, pingType = 1, 3, 6
	endOfCall                        = 1 | 4 // END_STREAM, END_HEADERS
)

func neighbourByHand(t *testing.T, handler http.Handler) *byHand {
	t.Helper()
	near, far := net.Pipe()
	listener := &oneConn{conn: make(chan net.Conn, 1), end: make(chan struct{})}
	listener.conn <- Pace(far)
	server := ForNeighbours(NewServer(handler, slog.New(slog.DiscardHandler)), 4)
	go server.Serve(listener)
	t.Cleanup(func() { near.Close(); server.Close() })
	_ = near.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := &byHand{t, near}
	_, err := io.WriteString(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	assert.NilError(t, err)
	assert.NilError(t, b.send(settingsType, 0, 0, nil))
	return b
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn chan net.Conn
	end  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.end:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.end); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func (b *byHand) send(of, flags byte, stream uint32, payload []byte) error {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(of))
	frame = binary.BigEndian.AppendUint32(append(frame, flags), stream)
	_, err := b.Write(append(frame, payload...))
	return err
}

// receive returns the next frame's type.
func (b *byHand) receive() byte {
	b.t.Helper()
	head := make([]byte, frameHead)
	_, err := io.ReadFull(b, head)
	if err == nil {
		_, err = io.CopyN(io.Discard, b, int64(binary.BigEndian.Uint32(head)>>8))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return head[3]
}

func TestLittleIsReadOfANeighbourThatReadsNothing(t *testing.T) {
	b := neighbourByHand(t, http.NotFoundHandler())
	sent := 0
	for ; ; sent++ {
		_ = b.SetWriteDeadline(time.Now().Add(time.Second)) // one is taken at once, or none
		if err := b.send(pingType, 0, 0, make([]byte, 8)); err != nil {
			break
		}
	}
	if most := 8 * mostOwed; sent > most { // net/http gathers some answers before it writes, and queues up to 10,000
		t.Errorf("%d pings were taken, not %d at most", sent, most)
	}
}

func TestANeighbourThatReadsIsRead(t *testing.T) {
	const pings = 2 * mostOwed
	b := neighbourByHand(t, http.NotFoundHandler())
	ping := func() {
		assert.Check(t, b.send(pingType, 0, 0, make([]byte, 8)))
	}
	answered := func() {
		for b.receive() != pingType {
		}
	}
	for range pings {
		go ping()
		answered()
	}
	_ = b.SetWriteDeadline(time.Now().Add(30 * time.Second))
	for range mostOwed / 2 { // before it reads again
		ping()
	}
	const more = 8 * mostOwed
	go func() {
		for range more {
			ping()
		}
	}()
	time.Sleep(100 * time.Millisecond) // until they wait
	for range mostOwed/2 + more {
		answered()
	}
}

func TestANeighboursCallsOnOneConnectionAreFew(t *testing.T) {
	var running atomic.Int32
	b := neighbourByHand(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		running.Add(1)
		<-r.Context().Done()
	}))
	const calls, most = 100, 4
	go func() {
		for i := range calls {
			// HPACK: GET, http, / and one literal
			if b.send(headersType, endOfCall, uint32(2*i+1), append([]byte{0x82, 0x86, 0x84, 0x01, 1}, 'a')) != nil {
				return
			}
		}
	}()
	for refused := 0; refused < calls-most; {
		if b.receive() == resetType {
			refused++
		}
	}
	if n := running.Load(); n > most {
		t.Errorf("%d calls run, not %d at most", n, most)
	}
}
