package handover

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// progress tracks how much output a client has taken.
type progress struct {
	conn    *net.UnixConn
	written atomic.Uint64 // bytes of pieces that are entirely in the kernel's buffer

	// The values at the last check.
	lastWritten uint64
	lastUnread  int
	stall       Stall
	cut         bool
}

// begin tracks what is written to a client, until end is called. A client without
// an offer is not tracked.
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

// CutSlow cuts the clients that have taken none of their output for a time, as
// seen by successive calls of CutSlow. It returns their number.
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

// look also asks the kernel, whose buffer may hold megabytes: a slow client may
// not make room for another piece within minutes.
func (p *progress) look() (progressed bool) {
	written, unread := p.written.Load(), unread(p.conn)
	progressed = written > p.lastWritten || unread < p.lastUnread
	p.lastWritten, p.lastUnread = written, unread
	return progressed
}

// unread returns how much of what was written to a connection is still in the
// kernel's buffer, which counts whole pieces, and more than their bytes. 0:
// nothing, or it is closed.
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

// WaitTaken waits until no offer is open: the client's connection has arrived, or
// will not.
func (o *Offers) WaitTaken(ctx context.Context) error {
	return o.changed.Wait(ctx, &o.mu, func() bool { return len(o.open) == 0 })
}
