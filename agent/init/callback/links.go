package callback

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	drainPoll = 5 * time.Millisecond
	// afterCut is how long a link that was cut while the agent left may take to
	// deliver the rest.
	afterCut = 10 * time.Second
)

// links are those of one agent, by their IDs.
type links struct {
	limit  time.Duration // that each may be without a carrier
	hand   func(net.Conn) error
	logger *slog.Logger

	mu    sync.Mutex
	known map[linkID]*link
}

// newLinks has none yet.
//
// hand gives the agent's end of a new one to whoever serves it
func newLinks(limit time.Duration, hand func(net.Conn) error, logger *slog.Logger) *links {
	return &links{limit: limit, hand: hand, logger: logger, known: map[linkID]*link{}}
}

// carry lets a connection carry the link that it names, until it is lost.
func (l *links) carry(carrier *usedConn) {
	defer carrier.Close()
	var opening [openingSize]byte
	carrier.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if _, err := io.ReadFull(carrier.reader, opening[:]); err != nil {
		return
	}
	carrier.SetReadDeadline(time.Time{})
	id := linkID(opening[1:])
	arrived := binary.BigEndian.Uint64(opening[1+linkIDSize:])
	l.mu.Lock()
	known := l.known[id]
	isNew := opening[0] == opensLink && known == nil && len(l.known) < maxConnections
	var outer net.Conn
	if isNew {
		known, outer = newLink(l.limit, l.logger, func() { l.forget(id) })
		l.known[id] = known
	}
	l.mu.Unlock()
	if known == nil || (opening[0] == opensLink) != isNew {
		refuseLink(carrier)
		return
	}
	if isNew && l.hand(outer) != nil {
		known.abandon()
		refuseLink(carrier)
		return
	}
	known.carry(carrier, carrier.reader, arrived)
}

func (l *links) forget(id linkID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, id)
}

// drain waits, after the agent has closed its ends, until the peers have received
// what was written: until ctx ends or, while isPatient, until cut links have been
// abandoned or had afterCut on another connection.
func (l *links) drain(ctx context.Context, isPatient func() bool) {
	var lastCut time.Time
	for {
		l.mu.Lock()
		all := slices.Collect(maps.Values(l.known))
		l.mu.Unlock()
		all = slices.DeleteFunc(all, (*link).isDelivered)
		if slices.ContainsFunc(all, (*link).isCut) {
			lastCut = time.Now()
		}
		if len(all) == 0 || ctx.Err() != nil && !(isPatient() && time.Since(lastCut) < afterCut) {
			return
		}
		time.Sleep(drainPoll)
	}
}
