package server

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// bodyOut sends the bytes that a call requests to the client's own connection, as
// the body of its answer, if that is handed over.
type bodyOut struct {
	ctx    context.Context // of the files being read; after a hand-over it outlives the call
	cancel context.CancelCauseFunc

	call context.Context
	// offers is nil if everything is sent over the call.
	offers *handover.Offers
	tell   func(*agentv1.HandOverOffer) error
	offer  *handover.Offer
	given  *handover.Given
}

// newBodyOut creates the output of a body. tell sends the offer. cancel must be
// called.
func newBodyOut(call context.Context, offers *handover.Offers, tell func(*agentv1.HandOverOffer) error) *bodyOut {
	o := &bodyOut{call: call, offers: offers, tell: tell}
	o.ctx, o.cancel = outliving(call, offers)
	return o
}

// offersOf returns nil if the client's connection must not be handed over, or the
// container's agent accepts none.
func offersOf(container Container, asked bool) *handover.Offers {
	if taker, takes := container.(HandOvers); asked && takes {
		return taker.HandOvers()
	}
	return nil
}

// outliving returns the context of a body and its files: after a hand-over the
// body continues, and its mounts stay, although the caller is gone, until the
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

// begin makes the offer, if one is wanted and was not made yet.
func (o *bodyOut) begin() error {
	if o.offers == nil || o.offer != nil {
		return nil
	}
	offer, err := o.offers.Make()
	if err != nil {
		o.offers = nil // already logged
		return nil
	}
	o.offer = offer
	return o.tell(&agentv1.HandOverOffer{Socket: offer.Socket, Token: offer.Token})
}

// give writes to the client's connection; the first bytes wait for it.
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

// withdraw ends an offer before the first byte.
func (o *bodyOut) withdraw() {
	if o.offer != nil {
		if client, taken := o.offer.Withdraw(); taken {
			client.Conn.Close()
		}
	}
}

// awaitClient waits for the offered connection, which may arrive after the caller
// is gone, if sent just before.
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
