package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// bodyOut takes the bytes that a call asks for to the client's own connection, as
// the body of its answer, where that is handed on.
type bodyOut struct {
	ctx    context.Context // of what is read, which outlives the call where it is handed on
	cancel context.CancelCauseFunc

	call context.Context
	// offers is nil where all goes over the call.
	offers *handover.Offers
	tell   func(*agentv1.HandOverOffer) error
	offer  *handover.Offer
	given  *handover.Given
}

// newBodyOut makes the way of a body. tell sends the offer. cancel must be called.
func newBodyOut(call context.Context, offers *handover.Offers, tell func(*agentv1.HandOverOffer) error) *bodyOut {
	o := &bodyOut{call: call, offers: offers, tell: tell}
	o.ctx, o.cancel = outliving(call, offers)
	return o
}

// offersOf returns nil where no client's connection is to be handed on, or the
// container's agent takes none.
func offersOf(container Container, asked bool) *handover.Offers {
	if taker, takes := container.(HandOvers); asked && takes {
		return taker.HandOvers()
	}
	return nil
}

// outliving is the context of a body, and of the files that it is of: one that may
// be handed on goes on, and its mounts stay, though the caller is gone, until the
// call is cut.
func outliving(call context.Context, offers *handover.Offers) (context.Context, context.CancelCauseFunc) {
	if offers == nil {
		return context.WithCancelCause(call)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(call))
	go func() {
		select {
		case <-overOf(call):
			cancel(ErrLeaving)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// begin makes the offer, if there is to be one and there is none.
func (o *bodyOut) begin() error {
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

// give writes to the client's connection, for which the first bytes wait.
func (o *bodyOut) give(data []byte) (int, error) {
	if o.given == nil {
		client, err := awaitClient(o.call, o.offer)
		if err != nil {
			return 0, err
		}
		o.given = handover.Give(client, o.cancel)
		context.AfterFunc(o.ctx, o.given.Cut)
	}
	return o.given.Write(data)
}

// withdraw ends an offer for which no byte has waited.
func (o *bodyOut) withdraw() {
	if o.offer != nil {
		if client, taken := o.offer.Withdraw(); taken {
			client.Conn.Close()
		}
	}
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
		case <-overOf(call):
			if client, taken := offer.Withdraw(); taken {
				return client, nil
			}
			return handover.Client{}, ErrLeaving
		case <-limit.C:
			if client, taken := offer.Withdraw(); taken {
				return client, nil
			}
			return handover.Client{}, connect.NewError(connect.CodeDeadlineExceeded, errors.New("the client's connection did not come"))
		}
	}
}
