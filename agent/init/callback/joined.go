package callback

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/sockerless/sockerless/agent/core/accepting"
)

// JoinedListener takes the connections of a backend that reaches the agent by
// way of its platform, which may cut them: those that carry a link go on then.
type JoinedListener struct {
	listener net.Listener
	taken
	links *links
}

// Joined begins to take connections.
//
// resumeWithin is how long one that carries a link may be cut before that is given up
func Joined(listener net.Listener, resumeWithin time.Duration, logger *slog.Logger) *JoinedListener {
	l := &JoinedListener{listener: listener, taken: newTaken(context.Background())}
	l.links = newLinks(resumeWithin, l.hand, logger)
	go l.run(logger)
	return l
}

// Addr is where the platform connects.
func (l *JoinedListener) Addr() net.Addr { return l.listener.Addr() }

// Drain waits until the peers have got what was written, once all connections
// were closed. Until then links that were cut go on: only then nobody may come.
func (l *JoinedListener) Drain(ctx context.Context, isPatient func() bool) {
	l.links.drain(ctx, isPatient)
	l.listener.Close()
}

func (l *JoinedListener) run(logger *slog.Logger) {
	for {
		conn, err := accepting.Next(context.Background(), l.places, l.listener.Accept)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			logger.Error("accept a connection", "error", err)
			continue
		}
		go l.take(&usedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer), free: l.free})
	}
}

func (l *JoinedListener) take(used *usedConn) {
	used.SetReadDeadline(time.Now().Add(handshakeTimeout))
	first, err := used.reader.Peek(1)
	used.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		used.Close()
	case first[0] == opensLink || first[0] == resumesLink:
		l.links.carry(used)
	default:
		_ = l.hand(used)
	}
}
