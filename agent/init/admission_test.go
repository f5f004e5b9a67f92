package containerinit

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// guarded is a gatekeeper on loopback that admits any client with a certificate
// of its own making, and whose handshakes may take as long as a busy machine needs.
func guarded(t *testing.T) (g *gatekeeper, client *tls.Config, said *lockedBuffer) {
	t.Helper()
	return guardedFor(t, 2*time.Minute)
}

// guardedFor is a gatekeeper whose handshakes may take so long.
func guardedFor(t *testing.T, timeout time.Duration) (g *gatekeeper, client *tls.Config, said *lockedBuffer) {
	t.Helper()
	certificate, err := newCertificate(someID, time.Now())
	assert.NilError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	said = &lockedBuffer{}
	rule := &clientRule{now: time.Now}
	config := rule.tlsConfig(certificate)
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if !bytes.Equal(state.PeerCertificates[0].Raw, certificate.Certificate[0]) {
			return x509.UnknownAuthorityError{}
		}
		return nil
	}
	admitted := admission{
		tls: config, timeout: timeout,
		roleOf:     func(tls.ConnectionState) role { return controls },
		neighbours: newShares(maxConnections, maxAllConnections),
		wide:       newShares(maxWide, maxAllConnections),
	}
	g = newGatekeeper(listener, admitted, slog.New(slog.NewTextHandler(said, nil)))
	t.Cleanup(func() { g.Close() })
	return g, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}}, said
}

func connectTo(t *testing.T, g *gatekeeper) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", g.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestConnectionsThatProveNothingAreBoundedAndGiveWay(t *testing.T) {
	g, client, said := guarded(t)
	var silent []net.Conn
	for range maxHandshakes {
		silent = append(silent, connectTo(t, g))
	}
	untilTrue(t, "all handshakes have begun", func() bool { return handshakes(g) == maxHandshakes })
	secure := tls.Client(connectTo(t, g), client)
	assert.Check(t, secure.Handshake(), "the right client does not get in beside them")
	_, err := g.Accept()
	assert.Check(t, err, "accept")
	silent[0].SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest is not closed: %v", err)
	}
	untilTrue(t, "the log tells of it", func() bool {
		return strings.Contains(said.String(), "younger connections are in their handshake")
	})
}

func handshakes(g *gatekeeper) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.handshakes.Len()
}

func TestWhoFallsSilentInTheHandshakeIsCutOff(t *testing.T) {
	t.Parallel()
	g, _, said := guardedFor(t, 100*time.Millisecond)
	silent := connectTo(t, g)
	silent.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := silent.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a silent client is waited for: %v", err)
	}
	// crypto/tls closes the connection itself when the handshake's time is over: the log follows.
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(said.String(), "a client was refused"); {
		assert.Assert(t, !time.Now().After(deadline), "the log has no word of it: %s", said)
		time.Sleep(time.Millisecond)
	}
}

func TestWhoLeavesInTheHandshakeIsNoAlarm(t *testing.T) {
	t.Parallel()
	g, _, said := guarded(t)
	connectTo(t, g).Close()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(said.String(), "level=INFO msg=\"a client left in its handshake\""); {
		if strings.Contains(said.String(), "refused") || time.Now().After(deadline) {
			t.Fatalf("the log says %s", said)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhoIsInTheHandshakeAtTheEndWasNotRefused(t *testing.T) {
	t.Parallel()
	g, _, said := guarded(t)
	connectTo(t, g)
	untilTrue(t, "a handshake has begun", func() bool { return handshakes(g) == 1 })
	g.Close()
	assert.Check(t, said.String() == "", "the log says %s", said)
}

func untilTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		assert.Assert(t, !time.Now().After(deadline), "not in two minutes: %s", what)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestRefusalsAreLoggedButNotWithoutEnd(t *testing.T) {
	g, _, said := guarded(t)
	for range 3 * refusalsLogged {
		conn := connectTo(t, g)
		io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		io.Copy(io.Discard, conn)
	}
	if lines := strings.Count(said.String(), "a client was refused"); lines != refusalsLogged {
		t.Errorf("%d lines:\n%s", lines, said)
	}
}

func TestClosingEndsAcceptAndHandshakes(t *testing.T) {
	g, _, _ := guarded(t)
	connectTo(t, g)
	accepted := make(chan error)
	go func() {
		_, err := g.Accept()
		accepted <- err
	}()
	assert.Check(t, g.Close())
	assert.Check(t, is.ErrorIs(<-accepted, net.ErrClosed), "accept")
}

func TestWindowsOfThoseAdmittedAreGivenBackInLargePieces(t *testing.T) {
	g, client, _ := guarded(t)
	secure := tls.Client(connectTo(t, g), client)
	go secure.Handshake()
	conn, err := g.Accept()
	assert.NilError(t, err)
	settings, credit := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}, []byte{0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0}
	for _, frame := range [][]byte{settings, credit, settings} {
		_, err := conn.Write(frame)
		assert.NilError(t, err)
	}
	conn.Close()
	if got, err := io.ReadAll(secure); !bytes.Equal(got, bytes.Repeat(settings, 2)) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestNeighboursConnectionsAreBoundedAndNoOthers(t *testing.T) {
	g, client, said := guarded(t)
	var control atomic.Bool
	g.roleOf = func(tls.ConnectionState) role {
		if control.Load() {
			return controls
		}
		return partners
	}
	g.neighbours = newShares(2, 3)
	connect := func() *tls.Conn {
		secure := tls.Client(connectTo(t, g), client)
		assert.NilError(t, secure.Handshake())
		_ = secure.SetReadDeadline(time.Now().Add(time.Minute))
		return secure
	}
	var admitted []net.Conn
	for range 2 {
		connect()
		conn, err := neighbourListener{g, g.neighbourly}.Accept()
		assert.NilError(t, err)
		admitted = append(admitted, conn)
	}
	if _, err := connect().Read(make([]byte, 1)); isTimeout(err) {
		t.Error("a third is not refused")
	}
	assert.Check(t, strings.Contains(said.String(), errTooManyConnections.Error()), "the log says %s", said)
	for range 2 { // which a connection may be
		admitted[0].Close()
	}
	connect()
	_, err := (neighbourListener{g, g.neighbourly}).Accept()
	assert.Check(t, err)
	if _, err := connect().Read(make([]byte, 1)); isTimeout(err) {
		t.Error("one more is not refused: a connection was given back twice")
	}
	control.Store(true)
	for range 3 {
		connect()
		_, err := g.Accept()
		assert.Check(t, err)
	}
}

// neighbour connects as a partner, and accepts that.
func neighbour(t *testing.T, g *gatekeeper, client *tls.Config, admitted <-chan net.Conn) (there *tls.Conn, here net.Conn) {
	t.Helper()
	there = tls.Client(connectTo(t, g), client)
	go func() { _ = there.Handshake() }()
	select {
	case here = <-admitted:
		return there, here
	case <-time.After(time.Minute):
		t.Fatal("no connection comes")
		return nil, nil
	}
}

func TestAFewConnectionsOfAPartnerMayHaveManyCalls(t *testing.T) {
	g, client, _ := guarded(t)
	g.roleOf = func(tls.ConnectionState) role { return partners }
	_, first := neighbour(t, g, client, g.neighbourly)
	for range maxWide - 1 {
		neighbour(t, g, client, g.neighbourly)
	}
	neighbour(t, g, client, g.narrow)
	first.Close()
	neighbour(t, g, client, g.neighbourly)
	neighbour(t, g, client, g.narrow)
}

func TestLittleIsReadOfAPartnerThatReadsNothing(t *testing.T) {
	g, client, _ := guarded(t)
	g.roleOf = func(tls.ConnectionState) role { return partners }
	there, here := neighbour(t, g, client, g.neighbourly)
	go here.Write(make([]byte, 64<<20)) // until it is closed
	_, err := there.Read(make([]byte, 1))
	assert.NilError(t, err)
	const most = 300
	ping := []byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	go there.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), bytes.Repeat(ping, 10*most)...))
	var read atomic.Int64
	over := make(chan struct{})
	go func() {
		defer close(over)
		for buffer := make([]byte, 4096); ; {
			n, err := here.Read(buffer)
			if read.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	time.Sleep(500 * time.Millisecond) // for what must not come
	if frames := read.Load() / int64(len(ping)); frames == 0 || frames > most {
		t.Errorf("%d frames were read, not %d at most", frames, most)
	}
	here.Close()
	<-over
}

func TestSharesBoundEachKeyAndAll(t *testing.T) {
	s := newShares(2, 3)
	for _, step := range []struct {
		key  string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", false}} {
		if got := s.take(step.key); got != step.want {
			t.Errorf("%s: %v", step.key, got)
		}
	}
	s.give("a")
	s.give("a")
	if !s.take("b") || len(s.held) != 1 {
		t.Errorf("held: %v", s.held)
	}
}
