package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// Messages with bulk data are parsed from a call's body by hand: as objects they
// would be copied three more times and leave 64 KiB of garbage each, at a third
// of the throughput. The wire format is unchanged. The proto fixes the order of
// the fields: a field of the outer message holds an optional offset (absent when
// 0) and the data. Connect handles messages in any other form, and all other
// messages.

const (
	framePrefix = 5
	// maxBulkHead is enough for everything before a bulk message's data.
	maxBulkHead = 32
	offsetTag   = 1<<3 | 0
	dataTag     = 2<<3 | 2
	// bulkBufferSize is the message size of our own clients.
	bulkBufferSize = 64 << 10
)

var bulkBuffers = sync.Pool{New: func() any { return new([bulkBufferSize]byte) }}

// bulkTags are the outer tags of bulk messages by call.
var bulkTags = map[string]byte{
	agentv1connect.AgentServiceSessionProcedure:    3<<3 | 2, // SessionRequest.stdin
	agentv1connect.AgentServiceArchivePutProcedure: 2<<3 | 2, // ArchivePutRequest.chunk
	agentv1connect.AgentServiceTunnelProcedure:     2<<3 | 2, // TunnelRequest.data
}

type bulkKey struct{}

// withBulk gives calls that accept bulk data a bulkBody.
func withBulk(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tag := bulkTags[r.URL.Path]; tag != 0 && isGRPC(r.Header.Get("Content-Type")) {
			body := &bulkBody{body: r.Body, tag: tag}
			r = r.WithContext(context.WithValue(r.Context(), bulkKey{}, body))
			r.Body = body
		}
		next.ServeHTTP(w, r)
	})
}

// isGRPC reports whether messages are Protobuf, not JSON, which has no tags.
func isGRPC(contentType string) bool {
	return contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+proto")
}

// bulkOf returns the bulkBody of a call; nil: none.
func bulkOf(ctx context.Context) *bulkBody {
	body, _ := ctx.Value(bulkKey{}).(*bulkBody)
	return body
}

// bulkBody is a call's body. A receiver calls next, and then data for a bulk
// message or connect's Receive for any other: each calls silent if nothing comes
// for silenceLimit. It is for one goroutine at a time.
type bulkBody struct {
	body io.ReadCloser
	tag  byte

	head    [framePrefix + maxBulkHead]byte
	pending []byte // of head, for connect
	pass    int    // bytes after pending of a message for connect
	left    int    // remaining bytes of a bulk message's data
	early   []byte // of head: that data's first bytes
	err     error  // found by next, for connect to report
}

// next waits for a message, and returns the offset and length of its data if it
// is a bulk one. A nil bulkBody has no bulk messages.
func (b *bulkBody) next(silent context.CancelCauseFunc) (offset uint64, length int, bulk bool) {
	if b == nil || b.err != nil || b.pass > 0 || len(b.pending) > 0 {
		return 0, 0, false
	}
	defer whileAlive(silent)()
	n, err := io.ReadFull(b.body, b.head[:framePrefix])
	if err != nil {
		b.pending, b.err = b.head[:n], err
		if errors.Is(err, io.ErrUnexpectedEOF) {
			b.err = io.EOF // connect sees that it is within a prefix
		}
		return 0, 0, false
	}
	size := int(binary.BigEndian.Uint32(b.head[1:]))
	n, err = io.ReadFull(b.body, b.head[framePrefix:framePrefix+min(size, maxBulkHead)])
	b.pending = b.head[:framePrefix+n]
	if err != nil && size > 0 {
		b.err = io.ErrUnexpectedEOF
		return 0, 0, false
	}
	offset, start, bulk := parseBulkHead(b.head[framePrefix:framePrefix+n], size, b.tag)
	if !bulk || b.head[0] != 0 {
		b.pass = size - n
		return 0, 0, false
	}
	b.early, b.pending = b.pending[framePrefix+start:], nil
	b.left = size - start
	return offset, b.left, true
}

// ended reports whether the body has ended, so that connect's Receive will not
// wait.
func (b *bulkBody) ended() bool { return b != nil && b.err != nil }

// data reads the data of the current bulk message.
func (b *bulkBody) data(silent context.CancelCauseFunc, into []byte) (int, error) {
	defer whileAlive(silent)()
	into = into[:min(len(into), b.left)]
	if len(b.early) > 0 {
		n := copy(into, b.early)
		b.early = b.early[n:]
		b.left -= n
		return n, nil
	}
	n, err := b.body.Read(into)
	b.left -= n
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, connect.NewError(connect.CodeDataLoss, io.ErrUnexpectedEOF)
	}
	return 0, err
}

// Read is called by connect.
func (b *bulkBody) Read(p []byte) (int, error) {
	if len(b.pending) > 0 {
		n := copy(p, b.pending)
		b.pending = b.pending[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.pass > 0 && len(p) > b.pass {
		p = p[:b.pass]
	}
	n, err := b.body.Read(p)
	b.pass = max(0, b.pass-n)
	return n, err
}

func (b *bulkBody) Close() error { return b.body.Close() }

// parseBulkHead parses the fields before a message's data. head is the beginning
// of the message.
func parseBulkHead(head []byte, size int, tag byte) (offset uint64, dataStart int, bulk bool) {
	at := 0
	number := func() uint64 {
		value, n := binary.Uvarint(head[at:])
		if n <= 0 {
			at = len(head)
			return ^uint64(0)
		}
		at += n
		return value
	}
	if len(head) == 0 || head[0] != tag {
		return 0, 0, false
	}
	at++
	inner := number()
	if inner != uint64(size-at) || at >= len(head) {
		return 0, 0, false
	}
	if head[at] == offsetTag {
		at++
		offset = number()
	}
	if at >= len(head) || head[at] != dataTag {
		return 0, 0, false
	}
	at++
	length := number()
	if length != uint64(size-at) || at > len(head) {
		return 0, 0, false
	}
	return offset, at, true
}
