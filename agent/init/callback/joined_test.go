package callback

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func joined(t *testing.T) *JoinedListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	l := Joined(listener, time.Hour, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		l.Close()
		listener.Close()
	})
	return l
}

func comeTo(t *testing.T, l *JoinedListener, first ...byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.Write(first)
	return conn
}

func openingOf(kind byte) []byte {
	opening := [openingSize]byte{kind}
	return opening[:]
}

func waitUntilCut(l *JoinedListener) {
	for !l.links.known[linkID{}].isCut() {
		time.Sleep(time.Millisecond)
	}
}

// drainWithoutTime waits for cut links alone.
func drainWithoutTime(l *JoinedListener) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	l.Drain(over, func() bool { return true })
}

func TestAConnectionThatCarriesNoLinkIsHandedOnAsItCame(t *testing.T) {
	l := joined(t)
	peer := comeTo(t, l, []byte("\x16hello")...)
	agent, err := l.Accept()
	assert.NilError(t, err)
	peer.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(agent); err != nil || string(got) != "\x16hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestALinkGoesOnByTheNextConnectionOfAPlatformThatHasCutOne(t *testing.T) {
	l := joined(t)
	first := comeTo(t, l, openingOf(opensLink)...)
	agent, err := l.Accept()
	assert.NilError(t, err)
	first.Close()
	waitUntilCut(l)
	go func() {
		agent.Write([]byte("the rest"))
		agent.Close()
	}()
	l.Close() // The agent leaves, and what it has said is still wanted.
	drained := make(chan struct{})
	go func() {
		drainWithoutTime(l)
		close(drained)
	}()
	second := comeTo(t, l, openingOf(resumesLink)...)
	if got := bring(t, second); got != "the rest" {
		t.Errorf("%q", got)
	}
	second.Write(frame(nil, uint64(len("the rest")), endsLink, nil))
	<-drained
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("an agent that has left still listens")
	}
}

func TestAPeerThatHasEverythingIsNotWaitedForOnceItIsCut(t *testing.T) {
	l := joined(t)
	peer := comeTo(t, l, openingOf(opensLink)...)
	agent, err := l.Accept()
	assert.NilError(t, err)
	agent.Write([]byte("all"))
	agent.Close()
	if got := bring(t, peer); got != "all" {
		t.Fatalf("%q", got)
	}
	peer.Write(frame(nil, uint64(len("all")), 0, nil)) // a peer that is gone before its own end
	peer.Close()
	waitUntilCut(l)
	l.Close()
	drainWithoutTime(l)
}
