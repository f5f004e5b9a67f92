package server

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
)

const (
	frameHead        = 9
	windowUpdateType = 8
	windowUpdate     = frameHead + 4
	// streamCredit and connectionCredit are how much of a window is held back: a
	// quarter, so that a client always has the rest.
	streamCredit     = streamWindow / 4
	connectionCredit = connectionWindow / 4
	// localCredit is half of a local window: returned by quarters, it would take twice
	// the packets.
	localCredit = localWindow / 2
)

// creditConn is an HTTP/2 server's connection that returns the client's
// flow-control credit in large pieces. net/http returns it with every read of a
// body, so every 16 KiB of a process's input: as many packets for the client, and
// for each it sends as little again.
//
// Only one goroutine writes at a time, as net/http does.
type creditConn struct {
	net.Conn
	most uint32 // that is held back of a stream

	begun      bool
	other      bool   // it is not HTTP/2
	left       int    // remaining bytes of the current frame
	head       []byte // the partial header of a frame
	connection uint32 // its credit
	stream     uint32 // the last that had credit
	credit     uint32 // that stream's
	out        []byte
}

// HoldCredit wraps a connection to be served by a server of NewServer, not of ForLocal.
func HoldCredit(conn net.Conn) net.Conn { return &creditConn{Conn: conn, most: streamCredit} }

func (c *creditConn) Write(p []byte) (int, error) {
	if !c.begun {
		c.begun = true
		// HTTP/2 begins with a SETTINGS frame shorter than 64 KiB.
		c.other = len(p) > 0 && p[0] != 0
	}
	if c.other {
		return c.Conn.Write(p)
	}
	if rest := c.withoutCredit(p); len(rest) > 0 {
		if _, err := c.Conn.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// withoutCredit returns the part of frames to be written now. It is valid until
// the next call.
func (c *creditConn) withoutCredit(p []byte) []byte {
	if len(c.head) > 0 {
		p = slices.Concat(c.head, p)
		c.head = nil
	}
	c.out = c.out[:0]
	changed, kept := false, 0 // p[kept:at] is unchanged
	for at := 0; at < len(p); {
		if c.left > 0 {
			n := min(c.left, len(p)-at)
			c.left -= n
			at += n
			continue
		}
		frame := p[at:]
		isCredit := len(frame) >= frameHead && frame[3] == windowUpdateType
		if len(frame) < frameHead || isCredit && len(frame) < windowUpdate {
			c.head = bytes.Clone(frame) // net/http writes the rest at once
			return append(c.out, p[kept:at]...)
		}
		if !isCredit {
			c.left = frameHead + int(binary.BigEndian.Uint32(frame)>>8)
			continue
		}
		c.out = append(c.out, p[kept:at]...)
		c.hold(binary.BigEndian.Uint32(frame[5:]), binary.BigEndian.Uint32(frame[frameHead:]))
		at += windowUpdate
		changed, kept = true, at
	}
	if !changed {
		return p
	}
	return append(c.out, p[kept:]...)
}

// hold accumulates credit until it is worth sending, for one stream at a time:
// our clients send one long input on a connection at most, besides datagrams.
func (c *creditConn) hold(stream, credit uint32) {
	if stream == 0 {
		if c.connection += credit; c.connection >= connectionCredit {
			c.give(0, c.connection)
			c.connection = 0
		}
		return
	}
	if stream != c.stream {
		if c.credit > 0 {
			c.give(c.stream, c.credit)
		}
		c.stream, c.credit = stream, 0
	}
	if c.credit += credit; c.credit >= c.most {
		c.give(stream, c.credit)
		c.credit = 0
	}
}

func (c *creditConn) give(stream, credit uint32) {
	c.out = append(c.out, 0, 0, 4, windowUpdateType, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, stream)
	c.out = binary.BigEndian.AppendUint32(c.out, credit)
}
