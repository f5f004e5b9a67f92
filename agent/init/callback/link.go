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
	// openingSize: the first byte, the link's ID, and the number of bytes
	// received.
	openingSize = 1 + linkIDSize + 8
	// frameHead: the number of bytes received, and the length of the following
	// data.
	frameHead = 8 + 4
	// endsLink replaces the length in the last frame of a link.
	endsLink = math.MaxUint32
	// maxKept bounds the bytes that are sent but not confirmed.
	maxKept = 2 << 20
	// ackAfter is how many bytes are received before the peer gets a
	// confirmation.
	ackAfter = 256 << 10
	// maxFrame is a message's data without the frame's head and its own of 8
	// bytes: two whole TLS records. The relay accepts 64 KiB at most.
	maxFrame = readAtOnce - 8 - frameHead
	// readAtOnce is at least a TLS record.
	readAtOnce = 32 << 10
)

type linkID [linkIDSize]byte

// link is a connection that survives the loss of its carriers: sent data is kept
// until it is confirmed, and sent again on the next carrier.
type link struct {
	// inner is the other end of the connection that the agent serves.
	inner  net.Conn
	limit  time.Duration // that it may be without a carrier
	ended  func()
	logger *slog.Logger

	// receiving is locked by the carrier whose bytes are being delivered.
	receiving sync.Mutex

	mu       sync.Mutex
	changed  *sync.Cond
	carrier  net.Conn // nil: there is none now
	kept     bytes.Buffer
	base     uint64 // bytes before kept
	next     uint64 // offset of the byte that is sent next on this carrier
	sent     uint64 // bytes ever sent, on any carrier
	received uint64 // bytes received
	told     uint64 // the number last confirmed to the peer
	finished bool   // the agent sends no more
	closed   bool
	expiry   *time.Timer
}

// newLink returns a new link and the connection that Accept returns. ended is
// called once the link is over.
func newLink(limit time.Duration, logger *slog.Logger, ended func()) (*link, net.Conn) {
	inner, outer := net.Pipe()
	l := &link{inner: inner, limit: limit, logger: logger, ended: ended}
	l.changed = sync.NewCond(&l.mu)
	go l.takeOutput()
	return l, outer
}

// carry uses a connection from now on, whose peer has received `arrived` bytes.
// It returns once the connection is lost or replaced, or the link is over.
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
		l.close() // a peer that received bytes which were never sent is broken
		l.mu.Unlock()
		refuseLink(carrier)
		return
	}
	if l.expiry != nil {
		l.expiry.Stop()
	}
	l.carrier = carrier
	l.next = arrived
	l.told = math.MaxUint64 // the first frame confirms what has been received
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

// isLate reports whether an opening is outdated, since its peer has confirmed
// more by now; l.mu is held.
func (l *link) isLate(arrived uint64) bool {
	return !l.closed && arrived < l.base
}

// drop closes the carrier, if any, since its peer has replaced it. False: the
// replacement is outdated.
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

// refuseLink tells a peer that the link does not exist.
func refuseLink(carrier net.Conn) {
	carrier.Write(frame(nil, 0, endsLink, nil)) // if this fails, the peer sees the end
	carrier.Close()
}

// lose makes the link wait for another carrier, or ends it if the peer has left.
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

// hasLeft distinguishes a WebSocket that the relay closed, without a status,
// because its client left, from one that was cut, or closed by a proxy on the
// way.
func hasLeft(reason error) bool {
	return reason == nil || websocket.CloseStatus(reason) == websocket.StatusNoStatusRcvd
}

func (l *link) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carrier == nil && !l.closed
}

// isDelivered reports whether the peer of a cut link has confirmed all that there
// is: it may not come back.
func (l *link) isDelivered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carrier == nil && l.finished && l.kept.Len() == 0
}

// errUnused means that the peer asked for the connection but did not wait for it.
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

// abandon ends a link that was never accepted.
func (l *link) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

// acknowledge forgets confirmed data; l.mu is held. False: that many bytes were
// never sent.
func (l *link) acknowledge(arrived uint64) bool {
	if arrived < l.base || arrived > l.sent {
		return false
	}
	l.kept.Next(int(arrived - l.base))
	l.base = arrived
	l.next = max(l.next, arrived) // it may have arrived over an earlier carrier
	if l.kept.Len() == 0 && l.kept.Cap() > readAtOnce {
		l.kept = bytes.Buffer{}
	}
	l.changed.Broadcast()
	return true
}

// takeOutput reads the agent's output until it ends.
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

// send sends kept data and confirmations until the carrier is lost.
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
			return // the peer closes the connection once it has everything
		}
	}
}

// isToSend reports whether data or a confirmation is to be sent; l.mu is held.
func (l *link) isToSend() bool {
	isAckDue := l.told > l.received || l.received-l.told >= ackAfter
	return l.next < l.base+uint64(l.kept.Len()) || isAckDue || l.finished
}

func frame(to []byte, arrived uint64, length uint32, data []byte) []byte {
	to = binary.BigEndian.AppendUint64(to, arrived)
	to = binary.BigEndian.AppendUint32(to, length)
	return append(to, data...)
}

// receive delivers received data. It returns nil when the peer has ended the
// link.
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
			l.inner.Write(buffer[:n]) // an agent that has closed its end reads no more
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

// errReplaced means that the connection no longer carries the link, or has
// another peer.
var errReplaced = errors.New("the connection carries the link no more")
