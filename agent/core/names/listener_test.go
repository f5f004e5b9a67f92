package names

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/accepting"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// countingListener counts what is accepted.
type countingListener struct {
	net.Listener
	mu         sync.Mutex
	open, most int
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.add(1)
	return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { l.add(-1) })}, nil
}

func (l *countingListener) add(change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += change
	l.most = max(l.most, l.open)
}

func (l *countingListener) mostAtATime() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// resolveAt serves a listener, and a socket for UDP that nobody asks.
func resolveAt(t *testing.T, listener net.Listener, told *agentv1.NamesRequest) *Resolver {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	assert.NilError(t, err)
	resolver := Serve(packets, listener, NewTable(told), Options{Upstreams: MachineUpstreams, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(resolver.Close)
	return resolver
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	assert.NilError(t, err)
	return listener
}

// connect begins with some bytes.
func connect(t *testing.T, listener net.Listener, begin []byte) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp4", listener.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = conn.Write(begin)
	assert.NilError(t, err)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn.(*net.TCPConn)
}

// framed is a question as TCP has it.
func framed(t *testing.T, query *dns.Msg) []byte {
	t.Helper()
	packed, err := query.Pack()
	assert.NilError(t, err)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
}

func TestConnectionsToTheResolverHavePlaces(t *testing.T) {
	listener := &countingListener{Listener: listen(t)}
	resolveAt(t, listener, request())
	half := append(binary.BigEndian.AppendUint16(nil, mostQuestion), make([]byte, mostQuestion/2)...)
	var all []net.Conn
	for range 3 * mostConnections {
		all = append(all, connect(t, listener, half))
	}
	// One that comes after them is accepted only once they have left.
	late := connect(t, listener, framed(t, new(dns.Msg).SetQuestion("web.", dns.TypeA)))
	for deadline := time.Now().Add(30 * time.Second); listener.mostAtATime() <= mostConnections; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are accepted", listener.mostAtATime())
		}
	}
	for _, conn := range all {
		conn.Close()
	}
	_, err := io.ReadFull(late, make([]byte, 2))
	assert.Check(t, err)
	// One waits for its place.
	if most := listener.mostAtATime(); most != mostConnections+1 {
		t.Errorf("%d connections at a time", most)
	}
}

func TestALongQuestionEndsItsConnection(t *testing.T) {
	listener := listen(t)
	resolveAt(t, listener, request())
	query := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	for _, length := range []uint16{mostQuestion + 1, 0xffff} {
		conn := connect(t, listener, framed(t, query))
		response := &dns.Conn{Conn: conn}
		if answer, err := response.ReadMsg(); err != nil || len(answer.Answer) != 1 {
			t.Fatal(answer, err)
		}
		long := make([]byte, 2+int(length))
		copy(long, framed(t, query))
		binary.BigEndian.PutUint16(long, length)
		_, _ = conn.Write(long)
		if answer, err := response.ReadMsg(); err == nil {
			t.Errorf("%d bytes are answered: %v", length, answer)
		}
	}
}

// failingListener has no descriptors.
type failingListener struct {
	net.Listener
	failed atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.failed.Add(1)
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
}

func TestTheResolverPausesWhenItCannotAccept(t *testing.T) {
	listener := &failingListener{Listener: listen(t)}
	resolveAt(t, listener, request())
	time.Sleep(4 * accepting.Pause)
	if failed := listener.failed.Load(); failed < 1 || failed > 10 {
		t.Errorf("%d times", failed)
	}
}

// pipeListener has one connection, whose client is to take each byte itself.
type pipeListener struct {
	net.Listener
	conns chan net.Conn
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if conn, isThere := <-l.conns; isThere {
		return conn, nil
	}
	return l.Listener.Accept()
}

// writtenConn tells that it is being written to.
type writtenConn struct {
	net.Conn
	written chan struct{}
}

func (c *writtenConn) Write(p []byte) (int, error) {
	close(c.written)
	return c.Conn.Write(p)
}

func TestTheResolverClosesWhileAClientTakesNoAnswer(t *testing.T) {
	client, served := net.Pipe()
	defer client.Close()
	conns, written := make(chan net.Conn, 1), make(chan struct{})
	conns <- &writtenConn{served, written}
	close(conns)
	resolver := resolveAt(t, &pipeListener{listen(t), conns}, request())
	_, err := client.Write(framed(t, new(dns.Msg).SetQuestion("web.", dns.TypeA)))
	assert.NilError(t, err)
	<-written
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		resolver.Close()
	}()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("it waits for the client")
		client.Close()
	}
}
