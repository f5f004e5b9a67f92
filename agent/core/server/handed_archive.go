package server

import (
	"context"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// archiveOut sends the bytes of a requested archive: as the call's messages, or
// to the client's own connection.
type archiveOut struct {
	*bodyOut
	container Container
	chunks    *chunkWriter
}

// newArchiveOut creates the output of an archive. asked: the client's connection
// may be handed over; tell sends the offer. end must be called.
func newArchiveOut(call context.Context, container Container, asked bool, chunks *chunkWriter, tell func(*agentv1.HandOverOffer) error) *archiveOut {
	return &archiveOut{newBodyOut(call, offersOf(container, asked), tell), container, chunks}
}

func (o *archiveOut) Write(data []byte) (int, error) {
	if err := o.stillThere(); err != nil {
		return 0, err
	}
	if err := o.begin(); err != nil {
		return 0, err
	}
	if o.offers == nil {
		return o.chunks.Write(data)
	}
	return o.give(data)
}

func (o *archiveOut) stillThere() error {
	if removable, can := o.container.(Removable); can {
		return removable.StillThere()
	}
	return nil
}

// end ends the archive, as failed if there is an error, or if files may be missing
// from it because they are being removed. It returns its length.
func (o *archiveOut) end(err error) (uint64, error) {
	defer o.cancel(nil)
	if err == nil {
		err = o.stillThere()
	}
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
