package callback

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// opensLink and resumesLink are the first byte of a connection that carries a
	// link; TLS begins with another one.
	opensLink, resumesLink = 1, 2
	linkIDSize             = 16
	// openingSize: the first byte, the link's ID, and how many bytes of it have come.
	openingSize = 1 + linkIDSize + 8
	// frameHead: how many bytes have come, and the length of the data that follows.
	frameHead = 8 + 4
	// endsLink stands for the length of a frame behind which nothing comes.
	endsLink = math.MaxUint32
	// maxKept bounds the bytes that were sent and have not arrived, as far as is known.
	maxKept = 2 << 20
	// ackAfter is how much comes before the peer is told.
	ackAfter = 256 << 10
	// maxFrame is what a message has beside a frame's head and its own, of 8 bytes: it
	// is two whole records of TLS. The relay takes 64 KiB at most.
	maxFrame = readAtOnce - 8 - frameHead
	// readAtOnce is at least a record of TLS.
	readAtOnce = 32 << 10
)

type linkID [linkIDSize]byte

// link is a connection that outlives the loss of the ones that carry it: what
// was sent is kept until it has arrived, and sent again on the next.
type link struct {
	// inner is the other end of the connection that the agent serves.
	inner  net.Conn
	limit  time.Duration // that it may be without a carrier
	ended  func()
	logger *slog.Logger

	// receiving is held by the carrier whose bytes are handed on.
	receiving sync.Mutex

	mu       sync.Mutex
	changed  *sync.Cond
	carrier  net.Conn // nil: there is none now
	kept     bytes.Buffer
	base     uint64 // bytes before kept
	next     uint64 // offset of the byte that is sent next on this carrier
	sent     uint64 // bytes that were ever sent, on whichever carrier
	received uint64 // bytes that have come
	told     uint64 // what the peer was told of them
	finished bool   // the agent sends no more
	closed   bool
	expiry   *time.Timer
}

// newLink begins one.
//
// ended is called once it is over
func newLink(limit time.Duration, logger *slog.Logger, ended func()) (*link, net.Conn) {
	inner, outer := net.Pipe()
	l := &link{inner: inner, limit: limit, logger: logger, ended: ended}
	l.changed = sync.NewCond(&l.mu)
	go l.takeOutput()
	return l, outer
}

// carry uses a connection from now on, whose peer has got `arrived` bytes. It
// returns once the connection is lost or replaced, or the link is over.
func (l *link) carry(carrier net.Conn, reader *bufio.Reader, arrived uint64) {
	if !l.drop(arrived) {
		carrier.Close()
		return
	}
	l.receiving.Lock()
	defer l.receiving.Unlock()
	l.mu.Lock()
	if l.isLate(arrived) {
		l.mu.Unlock()
		carrier.Close()
		return
	}
	if l.closed || !l.acknowledge(arrived) {
		l.close() // Nothing good comes of a peer that has got bytes which were never sent.
		l.mu.Unlock()
		refuseLink(carrier)
		return
	}
	if l.expiry != nil {
		l.expiry.Stop()
	}
	l.carrier = carrier
	l.next = arrived
	l.told = math.MaxUint64 // The first frame tells what has come.
	l.changed.Broadcast()
	l.mu.Unlock()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		l.send(carrier)
	}()
	l.lose(carrier, l.receive(carrier, reader))
	<-sent
}

// isLate tells an opening that comes late, since its peer has confirmed more by
// now; l.mu is held.
func (l *link) isLate(arrived uint64) bool {
	return !l.closed && arrived < l.base
}

// drop gives the carrier up, if there is one, as its peer has for another. False:
// that other comes late.
func (l *link) drop(arrived uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isLate(arrived) {
		return false
	}
	if l.carrier != nil {
		l.carrier.Close()
		l.carrier = nil
		l.changed.Broadcast()
	}
	return true
}

// refuseLink tells a peer that there is no such link.
func refuseLink(carrier net.Conn) {
	carrier.Write(frame(nil, 0, endsLink, nil)) // It hears of the end in any case.
	carrier.Close()
}

// lose has the link wait for another carrier, or ends it where the peer has left.
func (l *link) lose(carrier net.Conn, reason error) {
	carrier.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier != carrier {
		return
	}
	l.carrier = nil
	l.changed.Broadcast()
	if hasLeft(reason) {
		l.close()
		return
	}
	l.expiry = time.AfterFunc(l.limit, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.carrier == nil && !l.closed {
			if !l.finished || l.kept.Len() > 0 {
				l.logger.Warn("a connection to the backend was cut for too long", "limit", l.limit)
			}
			l.close()
		}
	})
}

// hasLeft tells a WebSocket that the relay closed, without a status, as its client has
// gone, from one that was cut, or closed by a proxy on the way.
func hasLeft(reason error) bool {
	return reason == nil || websocket.CloseStatus(reason) == websocket.StatusNoStatusRcvd
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carrier == nil && !l.closed
}

// errUnused: whoever has asked for the connection did not wait for its answer.
var errUnused = errors.New("nothing has come on the connection")

// close ends the link; l.mu is held.
func (l *link) close() {
	if !l.closed {
		l.closed = true
		l.inner.Close()
		l.changed.Broadcast()
		go l.ended()
	}
}

// abandon ends a link that nobody has taken.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

// acknowledge forgets what has arrived; l.mu is held. False: nothing was sent
// that could have.
func (l *link) acknowledge(arrived uint64) bool {
	if arrived < l.base || arrived > l.sent {
		return false
	}
	l.kept.Next(int(arrived - l.base))
	l.base = arrived
	l.next = max(l.next, arrived) // It may have come on an earlier carrier.
	if l.kept.Len() == 0 && l.kept.Cap() > readAtOnce {
		l.kept = bytes.Buffer{}
	}
	l.changed.Broadcast()
	return true
}

// takeOutput takes what the agent sends, until it sends no more.
func (l *link) takeOutput() {
	buffer := make([]byte, readAtOnce)
	for {
		n, err := l.inner.Read(buffer)
		l.mu.Lock()
		for l.kept.Len() > maxKept && !l.closed {
			l.changed.Wait()
		}
		l.kept.Write(buffer[:n])
		if err != nil {
			l.finished = true
		}
		closed := l.closed
		l.changed.Broadcast()
		l.mu.Unlock()
		if err != nil || closed {
			return
		}
	}
}

// send sends what is kept, and how much has come, until the carrier is lost.
func (l *link) send(carrier net.Conn) {
	var out []byte
	for {
		l.mu.Lock()
		for l.carrier == carrier && !l.isToSend() {
			l.changed.Wait()
		}
		if l.carrier != carrier {
			l.mu.Unlock()
			return
		}
		unsent := l.kept.Bytes()[l.next-l.base:]
		data := unsent[:min(len(unsent), maxFrame)]
		l.next += uint64(len(data))
		l.sent = max(l.sent, l.next)
		l.told = l.received
		length := uint32(len(data))
		if len(data) == 0 && l.finished {
			length = endsLink
		}
		out = frame(out[:0], l.received, length, data)
		l.mu.Unlock()
		if _, err := carrier.Write(out); err != nil {
			carrier.Close()
			return
		}
		if length == endsLink {
			return // The peer closes the connection once it has all.
		}
	}
}

// isToSend reports whether there is something to say; l.mu is held.
func (l *link) isToSend() bool {
	isAckDue := l.told > l.received || l.received-l.told >= ackAfter
	return l.next < l.base+uint64(l.kept.Len()) || isAckDue || l.finished
}

func frame(to []byte, arrived uint64, length uint32, data []byte) []byte {
	to = binary.BigEndian.AppendUint64(to, arrived)
	to = binary.BigEndian.AppendUint32(to, length)
	return append(to, data...)
}

// receive hands on what comes. Without an error the peer has ended the link.
func (l *link) receive(carrier net.Conn, reader *bufio.Reader) error {
	var head [frameHead]byte
	buffer := make([]byte, readAtOnce)
	for heard := false; ; heard = true {
		if _, err := io.ReadFull(reader, head[:]); err != nil && heard {
			return err
		} else if err != nil {
			return errUnused
		}
		l.mu.Lock()
		isKnown := l.carrier == carrier && l.acknowledge(binary.BigEndian.Uint64(head[:]))
		l.mu.Unlock()
		if !isKnown {
			return errReplaced
		}
		length := binary.BigEndian.Uint32(head[8:])
		if length == endsLink {
			return nil
		}
		for rest := int64(length); rest > 0; {
			n, err := reader.Read(buffer[:min(rest, readAtOnce)])
			rest -= int64(n)
			l.inner.Write(buffer[:n]) // An agent that has closed its end wants no more.
			l.mu.Lock()
			l.received += uint64(n)
			l.changed.Broadcast()
			l.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
}

// errReplaced: the connection is not the link's any more, or its peer is another's.
var errReplaced = errors.New("the connection carries the link no more")
