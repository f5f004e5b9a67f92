package server

import (
	"context"
	"errors"
	"io"
	"os"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

type takeStream = connect.BidiStream[agentv1.ArchiveTakeRequest, agentv1.ArchiveTakeResponse]

// ArchiveTake unpacks what a client sends over its own connection.
func (s *service) ArchiveTake(ctx context.Context, stream *takeStream) error {
	container, err := s.container(ctx, stream.RequestHeader())
	if err != nil {
		return wireError(err)
	}
	request, err := stream.Receive()
	if err != nil {
		return err
	}
	if request.Open == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("nothing says where the archive goes"))
	}
	offers := offersOf(container, true)
	if offers == nil {
		return Unimplemented{"this agent"}.cannot("ArchiveTake")
	}
	held, done := outliving(ctx, offers)
	defer done(nil)
	if taker, ok := container.(ArchiveTaker); ok {
		// The caller alone knows what becomes of it.
		return wireError(takeFrom(ctx, stream, request, offers, errCallerGone, done, func(body io.Reader) error {
			return taker.TakeArchive(held, body)
		}))
	}
	return wireError(s.files(held, container, true, func(root *archive.Root, directory *os.File) error {
		return takeFrom(ctx, stream, request, offers, nil, done, func(body io.Reader) error {
			return unpack(held, container, root, directory, request.Open, body)
		})
	}))
}

var errCallerGone = connect.NewError(connect.CodeUnavailable, errors.New("the request was cut: nobody is left to answer it"))

var errClientGone = connect.NewError(connect.CodeCanceled, errors.New("the client is gone"))

// takeFrom offers to take a client's connection, and has use read what it sends to
// its end. Where the caller is gone by then, the client is answered with what use
// says, or with unheard where that was no error. cancel ends use once the client
// has left.
func takeFrom(ctx context.Context, stream *takeStream, request *agentv1.ArchiveTakeRequest, offers *handover.Offers, unheard error, cancel context.CancelCauseFunc, use func(body io.Reader) error) error {
	offer, err := offers.Make()
	if err != nil {
		return err
	}
	defer offer.Withdraw()
	told := &agentv1.HandOverOffer{Socket: offer.Socket, Token: offer.Token}
	if err := stream.Send(&agentv1.ArchiveTakeResponse{Message: &agentv1.ArchiveTakeResponse_Offer{Offer: told}}); err != nil {
		return err
	}
	client, err := awaitClient(ctx, offer)
	if err != nil {
		return err
	}
	answered := make(chan bool, 1)
	go func() {
		_, err := stream.Receive()
		answered <- errors.Is(err, io.EOF) // else the caller is gone
	}()
	body := handover.Receive(client, request.Length, request.ExpectsContinue)
	defer body.Close()
	used := make(chan struct{})
	go func() {
		select {
		case <-overOf(ctx):
			body.Stop()
		case <-used:
		}
	}()
	go body.WatchHangUp(used, func() { cancel(errClientGone) })
	err = use(body)
	close(used)
	body.Stop() // One that is not wanted any more may still be read.
	result := &agentv1.ArchiveTakeResponse{}
	if err != nil {
		result.Message = &agentv1.ArchiveTakeResponse_Failure{Failure: failureOf(err)}
	} else {
		result.Message = &agentv1.ArchiveTakeResponse_End{End: &agentv1.ArchiveEnd{TotalBytes: body.Received}}
	}
	_ = stream.Send(result) // a caller that is gone needs none
	if <-answered {
		return nil
	}
	select {
	case <-overOf(ctx):
		return ErrLeaving // the caller gets this, and answers the client
	default:
	}
	if err == nil {
		err = unheard
	}
	var failure *agentv1.ArchiveFailure
	if err != nil {
		failure = failureOf(err)
	}
	body.Answer(request.Head, statusOf(failure), failure.GetMessage())
	return nil
}

func failureOf(err error) *agentv1.ArchiveFailure {
	message := err.Error()
	var coded *connect.Error
	if errors.As(err, &coded) {
		message = coded.Message()
	}
	return &agentv1.ArchiveFailure{Code: int32(connect.CodeOf(wireError(err))), Message: message}
}

// statusOf returns the HTTP status of a result, the same as the frontend's.
func statusOf(failure *agentv1.ArchiveFailure) int {
	if failure == nil {
		return 200
	}
	switch connect.Code(failure.Code) {
	case connect.CodeNotFound:
		return 404
	case connect.CodeAlreadyExists, connect.CodeFailedPrecondition, connect.CodeAborted:
		return 409
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return 400
	case connect.CodePermissionDenied:
		return 403
	case connect.CodeUnauthenticated:
		return 401
	case connect.CodeUnavailable, connect.CodeResourceExhausted:
		return 503
	case connect.CodeUnimplemented:
		return 501
	}
	return 500
}
