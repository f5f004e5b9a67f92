package server

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/mem"
)

const (
	frameHeader   = 9
	messageHeader = 5
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

// pieces counts what has come of unfinished messages in frames so small that gRPC keeps them outside of its pool.
type pieces struct {
	frames
	holding
	// By the number of their stream.
	of map[uint32]*message
}

// message is an unfinished message of a stream.
type message struct {
	header     []byte
	rest, held int
}

func newPieces(h holding) *pieces {
	preface := frames{header: []byte{3: 0xff, 8: 0}, rest: len(http2.ClientPreface)}
	return &pieces{frames: preface, holding: h, of: map[uint32]*message{}}
}

// part counts a part of a frame.
func (p *pieces) part(part []byte, isFirst bool) error {
	stream := binary.BigEndian.Uint32(p.header[5:]) & (1<<31 - 1)
	switch p.kind() {
	case http2.FrameRSTStream:
		p.end(stream)
		return nil
	case http2.FrameData:
	default:
		return nil
	}
	if p.has(http2.FlagDataPadded) {
		return errors.New("data of calls may not be padded")
	}
	of := p.of[stream]
	if of == nil {
		of = &message{}
		p.of[stream] = of
	}
	if length := p.length(); isFirst && mem.IsBelowBufferPoolingThreshold(length) {
		bytes := 2*length + headerBytes
		of.held += bytes
		p.all.add(p.by, bytes)
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
			p.all.add(p.by, -of.held)
			*of = message{}
		}
	}
	if p.rest == 0 && (p.has(http2.FlagDataEndStream) || len(of.header) == 0) {
		p.end(stream)
	}
	return nil
}

func (p *pieces) end(stream uint32) {
	if of := p.of[stream]; of != nil {
		p.all.add(p.by, -of.held)
		delete(p.of, stream)
	}
}
