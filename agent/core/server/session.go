package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

type sessionStream = connect.BidiStream[agentv1.SessionRequest, agentv1.SessionResponse]

// Session serves one exec or attachment.
func (s *service) Session(ctx context.Context, stream *sessionStream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	container, err := s.container(ctx, stream.RequestHeader())
	if err != nil {
		return wireError(err)
	}
	opened, err := openSession(ctx, cancel, container, stream)
	if err != nil {
		return wireError(err)
	}
	defer opened.Close()
	// The receiver ends with this call: its Receive fails then, and ctx is done.
	go receiveStdin(ctx, cancel, opened, stream)

	out := newSender(stream.Send, func() *agentv1.SessionResponse {
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	for {
		response, err := opened.Next(ctx)
		if err != nil {
			return wireError(err)
		}
		if isLast(response) {
			return out.finish(response)
		}
		if err := out.Send(response); err != nil {
			return err
		}
	}
}

func isLast(response *agentv1.SessionResponse) bool {
	switch response.Message.(type) {
	case *agentv1.SessionResponse_Exit, *agentv1.SessionResponse_Error, *agentv1.SessionResponse_Detached:
		return true
	}
	return false
}

// openSession takes the first message that is no heartbeat.
func openSession(ctx context.Context, cancel context.CancelCauseFunc, container Container, stream *sessionStream) (Session, error) {
	type received struct {
		request *agentv1.SessionRequest
		err     error
	}
	first := make(chan received, 1)
	go func() {
		request, err := hearing(cancel, stream.Receive)
		first <- received{request, err}
	}()
	var got received
	select {
	case got = <-first:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if errors.Is(got.err, io.EOF) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("the session was not opened"))
	}
	if got.err != nil {
		return nil, got.err
	}
	switch message := got.request.Message.(type) {
	case *agentv1.SessionRequest_OpenExec:
		return container.Exec(ctx, message.OpenExec)
	case *agentv1.SessionRequest_OpenAttach:
		return container.Attach(ctx, message.OpenAttach)
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("a session's first message must open it"))
}

// receiveStdin moves the client's input to the process until the client closes
// its half, leaves, or the session ends. It cancels the session when the
// stream is cut or not as the contract says.
func receiveStdin(ctx context.Context, cancel context.CancelCauseFunc, opened Session, stream *sessionStream) {
	var offset uint64
	for {
		request, err := hearing(cancel, stream.Receive)
		if errors.Is(err, io.EOF) {
			return // the client only listens from now on
		}
		if err != nil {
			cancel(err)
			return
		}
		switch message := request.Message.(type) {
		case *agentv1.SessionRequest_Stdin:
			if message.Stdin.Offset != offset {
				cancel(connect.NewError(connect.CodeDataLoss, errors.New("stdin bytes are missing")))
				return
			}
			offset += uint64(len(message.Stdin.Data))
			memory.Moved(len(message.Stdin.Data))
			if opened.WriteStdin(ctx, message.Stdin.Data) != nil {
				return // ctx is done
			}
		case *agentv1.SessionRequest_CloseStdin:
			opened.CloseStdin()
		case *agentv1.SessionRequest_Heartbeat:
		default:
			cancel(connect.NewError(connect.CodeInvalidArgument, errors.New("a session is opened once")))
			return
		}
	}
}
