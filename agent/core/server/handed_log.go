package server

import (
	"bytes"
	"context"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// LogHandOvers is a Container whose logs may be sent to clients' connections,
// although it accepts these for nothing else.
type LogHandOvers interface {
	LogHandOvers() *handover.Offers
}

// smallLog is the size up to which a log is always sent over the call, which is
// faster than a hand-over.
const smallLog = 32 << 10

// logOut sends a log's output: as the call's messages, or to the client's own
// connection.
type logOut struct {
	*bodyOut
	out    *sender[agentv1.LogsResponse]
	frames bool
	first  log.Chunk // the held back chunk
	offset uint64    // bytes so far
}

// newLogOut creates the output of a log. end must be called.
func newLogOut(call context.Context, container Container, request *agentv1.LogsRequest, out *sender[agentv1.LogsResponse]) *logOut {
	asked := request.HandOver && !request.Follow
	offers := offersOf(container, asked)
	if taker, takes := container.(LogHandOvers); asked && takes {
		offers = taker.LogHandOvers()
	}
	body := newBodyOut(call, offers, func(offer *agentv1.HandOverOffer) error {
		return out.Send(&agentv1.LogsResponse{Message: &agentv1.LogsResponse_Offer{Offer: offer}})
	})
	return &logOut{bodyOut: body, out: out, frames: request.Form == agentv1.LogForm_LOG_FORM_FRAMES}
}

// write holds back a small first chunk.
func (o *logOut) write(chunk log.Chunk) error {
	if o.offers != nil && o.offer == nil && len(o.first.Data) == 0 && len(chunk.Data) <= smallLog {
		o.first = log.Chunk{Stream: chunk.Stream, Data: bytes.Clone(chunk.Data)}
		return nil
	}
	err := o.begin()
	if err == nil {
		err = o.writeFirst()
	}
	if err == nil {
		err = o.put(chunk)
	}
	return err
}

// writeFirst writes the chunk that was held back.
func (o *logOut) writeFirst() error {
	first := o.first
	o.first = log.Chunk{}
	if len(first.Data) == 0 {
		return nil
	}
	return o.put(first)
}

func (o *logOut) put(chunk log.Chunk) error {
	if o.offers != nil {
		_, err := o.give(chunk.Data)
		return err
	}
	message := &agentv1.LogChunk{Stream: agentv1.Stream(chunk.Stream), Offset: o.offset, Data: chunk.Data}
	o.offset += uint64(len(chunk.Data))
	memory.Moved(len(chunk.Data))
	return o.out.Send(&agentv1.LogsResponse{Message: &agentv1.LogsResponse_Chunk{Chunk: message}})
}

// end ends the log, as failed if there is an error.
func (o *logOut) end(err error) error {
	defer o.cancel(nil)
	if o.given != nil {
		err = o.endGiven(err)
		o.offset = o.given.Written
	} else {
		o.withdraw()
		o.offers = nil
		if failure := o.writeFirst(); failure != nil {
			err = failure
		}
	}
	// The stream's memory is free only now, however long ago its bytes moved.
	memory.Moved(int(o.offset))
	if err != nil {
		return err
	}
	return o.out.finish(&agentv1.LogsResponse{Message: &agentv1.LogsResponse_End{End: &agentv1.LogsEnd{TotalBytes: o.offset}}})
}

// endGiven ends the output to a client's connection. A client that has left is no
// failure.
func (o *logOut) endGiven(err error) error {
	if err != nil && !o.given.Left() {
		_, _ = o.given.Write(handover.LogFailure(err, o.frames)) // a client that leaves now gets no message
	}
	failed := err != nil && !o.given.Left()
	if err = o.given.End(err); err != nil && !failed {
		return connect.NewError(connect.CodeCanceled, err)
	}
	return err
}
