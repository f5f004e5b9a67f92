package server

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

const (
	frameHeader   = 9
	messageHeader = 5
	// unreadBytes is what a message that was not read takes in its call's list of these.
	unreadBytes = 16
)

// frames reads HTTP/2 frames however their bytes are cut.
type frames struct {
	// Header of the frame, and bytes of the frame still to come.
	header []byte
	rest   int
}

// take calls a function with the parts of each frame, at least one.
func (f *frames) take(data []byte, with func(part []byte, isFirst bool) error) error {
	for len(data) > 0 {
		isFirst := len(f.header) < frameHeader
		if isFirst {
			taken := min(frameHeader-len(f.header), len(data))
			f.header, data = append(f.header, data[:taken]...), data[taken:]
			if len(f.header) < frameHeader {
				return nil
			}
			f.rest = f.length()
		}
		part := data[:min(f.rest, len(data))]
		f.rest, data = f.rest-len(part), data[len(part):]
		if err := with(part, isFirst); err != nil {
			return err
		}
		if f.rest == 0 {
			f.header = f.header[:0]
		}
	}
	return nil
}

func (f *frames) length() int { return int(binary.BigEndian.Uint32(f.header) >> 8) }

func (f *frames) kind() http2.FrameType { return http2.FrameType(f.header[3]) }

func (f *frames) has(flag http2.Flags) bool { return http2.Flags(f.header[4]).Has(flag) }

// missing returns how many bytes come before the end of a frame's header, or of the frame.
func (f *frames) missing() int {
	if len(f.header) < frameHeader {
		return frameHeader - len(f.header)
	}
	return f.rest
}

// stream is that of the last frame, which may be done.
func (f *frames) stream() uint32 {
	return binary.BigEndian.Uint32(f.header[5:frameHeader]) & (1<<31 - 1)
}

// pieces counts what a connection's streams hold: their calls, and what has come of messages that no handler has read, where that
// is in frames so small that gRPC keeps them outside of its pool.
type pieces struct {
	frames
	holding
	mu sync.Mutex
	// By the number of their stream.
	of map[uint32]*call
}

// call is what a stream holds until it is closed, which may be long after its handler.
type call struct {
	of *pieces
	// The unfinished message.
	header []byte
	rest   int
	// All that is counted: the call itself, finished messages that were not read, the first one first, and the unfinished one.
	held, piece int
	unread      []int
}

func newPieces(h holding) *pieces {
	preface := frames{header: []byte{3: 0xff, 8: 0}, rest: len(http2.ClientPreface)}
	return &pieces{frames: preface, holding: h, of: map[uint32]*call{}}
}

// begin counts a call, whose frame is the last one that was read.
func (p *pieces) begin(bytes int) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	made := &call{of: p, held: bytes}
	p.of[p.stream()] = made
	p.all.add(p.by, bytes)
	return made
}

// part counts a part of a frame.
func (p *pieces) part(part []byte, isFirst bool) error {
	switch p.kind() {
	case http2.FrameRSTStream:
		p.end(p.stream())
		return nil
	case http2.FrameData:
	default:
		return nil
	}
	if p.has(http2.FlagDataPadded) {
		return errors.New("data of calls may not be padded")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.of[p.stream()]
	if of == nil {
		return nil
	}
	if length := p.length(); isFirst && mem.IsBelowBufferPoolingThreshold(length) {
		bytes := 2*length + headerBytes
		of.piece += bytes
		of.add(bytes)
	}
	for len(part) > 0 {
		if missing := messageHeader - len(of.header); missing > 0 {
			taken := min(missing, len(part))
			of.header, part = append(of.header, part[:taken]...), part[taken:]
			if taken == missing {
				of.rest = int(binary.BigEndian.Uint32(of.header[1:]))
			}
		} else {
			taken := min(of.rest, len(part))
			of.rest, part = of.rest-taken, part[taken:]
		}
		if len(of.header) == messageHeader && of.rest == 0 {
			of.add(unreadBytes)
			of.unread = append(of.unread, of.piece+unreadBytes)
			of.header, of.piece = nil, 0
		}
	}
	return nil
}

func (p *pieces) end(stream uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of := p.of[stream]; of != nil {
		of.add(-of.held)
		delete(p.of, stream)
	}
}

// add counts bytes of a call that has not ended.
func (c *call) add(bytes int) {
	c.held += bytes
	c.of.all.add(c.of.by, bytes)
}

type callOfContext struct{}

// read counts a message as read by the handler of a call.
func read(ctx context.Context) {
	of, ok := ctx.Value(callOfContext{}).(*call)
	if !ok {
		return
	}
	of.of.mu.Lock()
	defer of.of.mu.Unlock()
	if of.held > 0 && len(of.unread) > 0 {
		of.add(-of.unread[0])
		of.unread = of.unread[1:]
	}
}

// readCall counts the request of a call.
func readCall(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	read(ctx)
	return handle(ctx, request)
}

func readStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return handle(server, readingStream{stream})
}

type readingStream struct{ grpc.ServerStream }

// RecvMsg counts a message as read.
func (s readingStream) RecvMsg(into any) error {
	err := s.ServerStream.RecvMsg(into)
	if err == nil {
		read(s.Context())
	}
	return err
}
