package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// archiveOut takes the bytes of an archive that a call asks for: into the call's
// messages, or to the client's own connection.
type archiveOut struct {
	ctx    context.Context // the archive's, which outlives the call where it is handed on
	cancel context.CancelCauseFunc

	call   context.Context
	chunks *chunkWriter
	// offers is nil where all goes over the call.
	offers *handover.Offers
	tell   func(*agentv1.HandOverOffer) error
	offer  *handover.Offer
	given  *handover.Given
}

// newArchiveOut makes the way of an archive. asked says that the client's connection
// may be handed on, tell sends the offer. end must be called.
func newArchiveOut(call context.Context, container Container, asked bool, chunks *chunkWriter, tell func(*agentv1.HandOverOffer) error) *archiveOut {
	o := &archiveOut{call: call, chunks: chunks, offers: offersOf(container, asked), tell: tell}
	o.ctx, o.cancel = context.WithCancelCause(outliving(call, o.offers))
	return o
}

// offersOf answers nil where no client's connection is to be handed on, or the
// container's agent takes none.
func offersOf(container Container, asked bool) *handover.Offers {
	if taker, takes := container.(HandOvers); asked && takes {
		return taker.HandOvers()
	}
	return nil
}

// outliving is the context of an archive, and of the files that it is of: one that
// may be handed on goes on, and its mounts stay, though the caller is gone.
func outliving(call context.Context, offers *handover.Offers) context.Context {
	if offers == nil {
		return call
	}
	return context.WithoutCancel(call)
}

// begin makes the offer, if there is to be one; the first byte does it too.
func (o *archiveOut) begin() error {
	if o.offers == nil || o.offer != nil {
		return nil
	}
	offer, err := o.offers.Make()
	if err != nil {
		o.offers = nil // it is in the log
		return nil
	}
	o.offer = offer
	return o.tell(&agentv1.HandOverOffer{Socket: offer.Socket, Token: offer.Token})
}

func (o *archiveOut) Write(data []byte) (int, error) {
	if err := o.begin(); err != nil {
		return 0, err
	}
	if o.offers == nil {
		return o.chunks.Write(data)
	}
	if o.given == nil {
		client, err := awaitClient(o.call, o.offer)
		if err != nil {
			return 0, err
		}
		o.given = handover.Give(client, o.cancel)
	}
	return o.given.Write(data)
}

// end ends the archive, which failed where there was an error. It answers its length.
func (o *archiveOut) end(err error) (uint64, error) {
	defer o.cancel(nil)
	if o.given != nil {
		err = o.given.End(err)
		return o.given.Written, err
	}
	if o.offer != nil {
		if client, taken := o.offer.Withdraw(); taken {
			client.Conn.Close()
		}
	}
	if err == nil {
		err = o.chunks.flush()
	}
	return o.chunks.offset, err
}

// awaitClient waits for the connection that an offer is for: it may come although
// the caller is gone, which has sent it just before.
func awaitClient(call context.Context, offer *handover.Offer) (handover.Client, error) {
	gone := call.Done()
	limit := time.NewTimer(offerLimit)
	defer limit.Stop()
	for {
		select {
		case client := <-offer.Taken:
			return client, nil
		case <-gone:
			gone = nil
			limit.Reset(orphanLimit)
		case <-limit.C:
			if client, taken := offer.Withdraw(); taken {
				return client, nil
			}
			return handover.Client{}, connect.NewError(connect.CodeDeadlineExceeded, errors.New("the client's connection did not come"))
		}
	}
}
