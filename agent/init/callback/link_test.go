package callback

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"
	"gotest.tools/v3/assert"
)

// linkTo gives a cut link a new carrier, and returns its peer's end.
func linkTo(l *link, arrived uint64) net.Conn {
	carrier, peer := net.Pipe()
	go l.carry(carrier, bufio.NewReader(carrier), arrived)
	return peer
}

// readFrame reads a frame's head and its data.
func readFrame(t *testing.T, peer net.Conn) (arrived uint64, data []byte) {
	t.Helper()
	var head [frameHead]byte
	_, err := io.ReadFull(peer, head[:])
	assert.NilError(t, err)
	data = make([]byte, binary.BigEndian.Uint32(head[8:]))
	_, err = io.ReadFull(peer, data)
	assert.NilError(t, err)
	return binary.BigEndian.Uint64(head[:]), data
}

func TestAPeerMayHaveGotMoreThanItsCarrierBrought(t *testing.T) {
	const size = 3 * maxFrame
	ended := make(chan struct{})
	l, agent := newLink(time.Minute, slog.New(slog.DiscardHandler), func() { close(ended) })
	go agent.Write(make([]byte, size))
	first := linkTo(l, 0)
	for got := 0; got < size; {
		_, data := readFrame(t, first)
		got += len(data)
	}
	second := linkTo(l, 0) // The bytes of the first were still on the way as it was asked for.
	readFrame(t, second)
	_, err := second.Write(frame(nil, size, 0, nil))
	assert.NilError(t, err)
	go agent.Write([]byte("more"))
	for {
		if _, data := readFrame(t, second); string(data) == "more" {
			break
		}
	}
	if _, err := second.Write(frame(nil, size+5, 0, nil)); err != nil { // more than was ever sent
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, second)
	assert.NilError(t, err)
	second.Close()
	agent.Close()
	l.mu.Lock()
	l.close()
	l.mu.Unlock()
	<-ended
}

// openLink returns a new link with a carrier.
func openLink(t *testing.T) (l *link, agent, carrier net.Conn) {
	t.Helper()
	ended := make(chan struct{})
	l, agent = newLink(time.Minute, slog.New(slog.DiscardHandler), func() { close(ended) })
	t.Cleanup(func() {
		agent.Close()
		l.mu.Lock()
		l.close()
		l.mu.Unlock()
		<-ended
	})
	return l, agent, linkTo(l, 0)
}

// confirm confirms received bytes to a link, and waits until it knows.
func confirm(t *testing.T, l *link, peer net.Conn, arrived uint64) {
	t.Helper()
	_, err := peer.Write(frame(nil, arrived, 0, nil))
	assert.NilError(t, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.base != arrived {
		l.changed.Wait()
	}
}

// bring reads frames until data has arrived.
func bring(t *testing.T, peer net.Conn) string {
	t.Helper()
	for {
		if _, data := readFrame(t, peer); len(data) > 0 {
			return string(data)
		}
	}
}

func TestALostEndIsSentAgain(t *testing.T) {
	l, agent, first := openLink(t)
	go agent.Write([]byte("all"))
	if got := bring(t, first); got != "all" {
		t.Fatalf("%q", got)
	}
	go first.Write(frame(nil, 0, 2, []byte("hi")))
	_, err := io.ReadFull(agent, make([]byte, 2))
	assert.NilError(t, err)
	confirm(t, l, first, 3)
	agent.Close()
	first.Close()
	second := linkTo(l, 3)
	var head [frameHead]byte
	_, err = io.ReadFull(second, head[:])
	assert.NilError(t, err)
	arrived, length := binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint32(head[8:])
	if arrived != 2 || length != endsLink {
		t.Errorf("%d bytes are told to have come, and %d as the length", arrived, length)
	}
	second.Close()
}

func TestALateOpeningIsPassedOver(t *testing.T) {
	l, agent, first := openLink(t)
	go agent.Write([]byte("abc"))
	bring(t, first)
	confirm(t, l, first, 3)
	late := linkTo(l, 0)
	if rest, err := io.ReadAll(late); err != nil || len(rest) > 0 {
		t.Errorf("it was answered %x, %v", rest, err)
	}
	go agent.Write([]byte("more"))
	if got := bring(t, first); got != "more" {
		t.Errorf("%q", got)
	}
}

func TestALinkThatComesWhileTheAgentLeavesIsWaitedForByNobody(t *testing.T) {
	l := &Listener{taken: newTaken(context.Background())}
	l.links = newLinks(time.Hour, l.hand, slog.New(slog.DiscardHandler))
	assert.NilError(t, l.Close())
	carrier, peer := net.Pipe()
	go func() {
		opening := [openingSize]byte{opensLink}
		peer.Write(opening[:])
		io.Copy(io.Discard, peer)
	}()
	l.links.carry(&usedConn{Conn: carrier, reader: bufio.NewReader(carrier), free: func() {}})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		l.links.mu.Lock()
		links := len(l.links.known)
		l.links.mu.Unlock()
		if links == 0 {
			return
		}
		assert.Assert(t, !time.Now().After(deadline), "it is still waited for")
	}
}

func TestWhatWasCutAsTheAgentLeftHasTimeForTheRest(t *testing.T) {
	l := &Listener{taken: newTaken(context.Background()), cancel: func(error) {}}
	l.links = newLinks(time.Hour, l.hand, slog.New(slog.DiscardHandler))
	open := func(kind byte) net.Conn {
		carrier, peer := net.Pipe()
		go l.links.carry(&usedConn{Conn: carrier, reader: bufio.NewReader(carrier), free: func() {}})
		opening := [openingSize]byte{kind}
		peer.Write(opening[:])
		return peer
	}
	first := open(opensLink)
	agent := <-l.conns
	first.Close()
	for !l.links.known[linkID{}].isCut() {
		time.Sleep(time.Millisecond)
	}
	go func() {
		agent.Write([]byte("the rest"))
		agent.Close()
	}()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	drained := make(chan struct{})
	go func() {
		l.Drain(over, func() bool { return true })
		close(drained)
	}()
	time.Sleep(4 * drainPoll)
	second := open(resumesLink)
	time.Sleep(20 * drainPoll) // It is carried now, and its peer reads slowly.
	select {
	case <-drained:
		t.Fatal("the agent has left")
	default:
	}
	if got := bring(t, second); got != "the rest" {
		t.Errorf("%q", got)
	}
}

func TestOnlyTheRelaysOwnCloseFrameMeansThatTheClientHasLeft(t *testing.T) {
	assert.Check(t, hasLeft(websocket.CloseError{Code: websocket.StatusNoStatusRcvd}), "a close frame without a status was taken for a cut")
	for _, code := range []websocket.StatusCode{websocket.StatusServiceRestart, websocket.StatusInternalError} {
		assert.Check(t, !hasLeft(websocket.CloseError{Code: code}), "a proxy's %v was taken for the client's leaving", code)
	}
	if hasLeft(io.EOF) { // That is what 1000 and 1001 are read as.
		t.Error("a proxy's leaving was taken for the client's")
	}
}
