package handover

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// progress is how far a client has come with what is written to it.
type progress struct {
	conn    *net.UnixConn
	written atomic.Uint64 // bytes, of pieces that are the kernel's wholly

	// As they were when somebody looked last.
	lastWritten uint64
	lastUnread  int
	stall       Stall
	cut         bool
}

// begin counts what is written to a client, until end is called. A client that came
// another way than by an offer is nobody's.
func (c *Client) begin() (wrote func(int), end func()) {
	if c.offers == nil {
		return func(int) {}, func() {}
	}
	p := &progress{conn: c.Conn}
	c.offers.mu.Lock()
	defer c.offers.mu.Unlock()
	c.offers.carried[p] = struct{}{}
	return func(n int) { p.written.Add(uint64(n)) }, func() {
		c.offers.mu.Lock()
		defer c.offers.mu.Unlock()
		delete(c.offers.carried, p)
	}
}

// CutSlow cuts the clients that have taken nothing of their output for a time, as far
// as was seen by calls of CutSlow. It answers how many.
func (o *Offers) CutSlow(now time.Time, limit time.Duration) (count int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.carried {
		if p.stall.Look(now, p.look()) >= limit && !p.cut {
			p.cut = true
			_ = p.conn.SetWriteDeadline(time.Unix(1, 0))
			count++
		}
	}
	return count
}

// look asks the kernel, too: it may hold megabytes, of which a client that is slow
// makes no room for another piece in minutes.
func (p *progress) look() (progressed bool) {
	written, unread := p.written.Load(), unread(p.conn)
	progressed = written > p.lastWritten || unread < p.lastUnread
	p.lastWritten, p.lastUnread = written, unread
	return progressed
}

// unread is how much of what was written to a connection is the kernel's, which
// counts whole pieces, and more than their bytes. 0: nothing, or it is closed.
func unread(conn *net.UnixConn) (held int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { held, failure = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || failure != nil {
		return 0
	}
	return held
}

// WaitTaken waits until no offer is open: its client has come, or will not.
func (o *Offers) WaitTaken(ctx context.Context) error {
	return o.changed.Wait(ctx, &o.mu, func() bool { return len(o.open) == 0 })
}
