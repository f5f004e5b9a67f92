package server

import (
	"context"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// archiveOut takes the bytes of an archive that a call asks for: into the call's
// messages, or to the client's own connection.
type archiveOut struct {
	*bodyOut
	chunks *chunkWriter
}

// newArchiveOut makes the way of an archive. asked says that the client's connection
// may be handed on, tell sends the offer. end must be called.
func newArchiveOut(call context.Context, container Container, asked bool, chunks *chunkWriter, tell func(*agentv1.HandOverOffer) error) *archiveOut {
	return &archiveOut{newBodyOut(call, offersOf(container, asked), tell), chunks}
}

func (o *archiveOut) Write(data []byte) (int, error) {
	if err := o.begin(); err != nil {
		return 0, err
	}
	if o.offers == nil {
		return o.chunks.Write(data)
	}
	return o.give(data)
}

// end ends the archive, which failed where there was an error. It answers its length.
func (o *archiveOut) end(err error) (uint64, error) {
	defer o.cancel(nil)
	if o.given != nil {
		err = o.given.End(err)
		return o.given.Written, err
	}
	o.withdraw()
	if err == nil {
		err = o.chunks.flush()
	}
	return o.chunks.offset, err
}
