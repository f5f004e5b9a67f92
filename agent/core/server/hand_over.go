package server

import (
	"context"
	"errors"
	"io"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// offerLimit limits how long a session waits for its client's connection.
	offerLimit = 30 * time.Second
	// orphanLimit is the same after the caller has left, which may have sent the
	// connection just before.
	orphanLimit = 3 * time.Second
)

// offering is a session whose client's connection may be handed over.
type offering struct {
	offers  *handover.Offers
	session handover.Session
	way     handover.Way
	stream  *sessionStream
	out     *sender[agentv1.SessionResponse]
}

// offeringOf returns nil if everything is sent over the call.
func offeringOf(container Container, session Session, first *agentv1.SessionRequest) *offering {
	asked := first.GetOpenExec().GetHandOver()
	stdin := first.GetOpenExec().GetAttachStdin()
	if attach := first.GetOpenAttach(); attach != nil {
		asked, stdin = attach.HandOver, attach.Stdin
	}
	taker, takes := container.(HandOvers)
	handed, can := session.(handover.Session)
	if asked == nil || !takes || !can {
		return nil
	}
	return &offering{
		offers: taker.HandOvers(), session: handed,
		way: handover.Way{Multiplexed: asked.Multiplexed, DetachKeys: asked.DetachKeys, Stdin: stdin},
	}
}

// run makes the offer and, if the connection arrives, carries it to the end of
// the session, even if the caller has left. It reports whether the session is
// over; otherwise it continues over the call.
func (o *offering) run(ctx context.Context, cancel context.CancelCauseFunc) (over bool, err error) {
	first, err := o.session.Next(ctx)
	if err != nil {
		return true, err
	}
	if isLast(first) {
		return true, o.out.finish(first)
	}
	offer, err := o.offers.Make()
	if err != nil {
		return false, o.out.Send(first) // already logged
	}
	defer offer.Withdraw()
	first.GetStarted().Offer = &agentv1.HandOverOffer{Socket: offer.Socket, Token: offer.Token}
	if err := o.out.Send(first); err != nil {
		return true, err
	}
	answer := make(chan error, 1)
	go func() { answer <- o.kept(cancel) }()
	limit := time.NewTimer(offerLimit)
	defer limit.Stop()
	for {
		select {
		case client := <-offer.Taken:
			return true, o.carry(client)
		case err := <-answer:
			if err != nil {
				answer = nil
				if !errors.Is(err, io.EOF) { // otherwise the caller only listens
					limit.Reset(orphanLimit)
				}
				continue
			}
			if client, taken := offer.Withdraw(); taken {
				return true, o.carry(client)
			}
			return false, nil
		case <-limit.C:
			if client, taken := offer.Withdraw(); taken {
				return true, o.carry(client)
			}
			return true, connect.NewError(connect.CodeDeadlineExceeded, errors.New("the client's connection did not come"))
		}
	}
}

// kept waits until the caller requests that the session continues over the call.
// An error ends the call.
func (o *offering) kept(cancel context.CancelCauseFunc) error {
	for {
		request, err := receiveAlive(cancel, o.stream.Receive)
		switch {
		case err != nil:
			return err
		case request.GetKeep() != nil:
			return nil
		case request.GetHeartbeat() == nil:
			err := connect.NewError(connect.CodeInvalidArgument, errors.New("the session was offered, and not kept"))
			cancel(err)
			return err
		}
	}
}

func (o *offering) carry(client handover.Client) error {
	// An error means that the caller is gone, which makes no difference.
	_ = o.out.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Handed{Handed: &agentv1.SessionHanded{}}})
	carried, last := handover.Carry(client, o.session, o.way)
	_ = o.out.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Carried{Carried: carried}})
	return o.out.finish(last)
}
