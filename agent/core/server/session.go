package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
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
	first, err := firstMessage(ctx, cancel, stream.Receive)
	if err != nil {
		return wireError(err)
	}
	opened, err := openSession(ctx, container, first)
	if err != nil {
		return wireError(err)
	}
	defer opened.Close()
	out := newSender(stream.Send, func() *agentv1.SessionResponse {
		return &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	if offering := offeringOf(container, opened, first); offering != nil {
		offering.stream, offering.out = stream, out
		if over, err := offering.run(ctx, cancel); over || err != nil {
			return wireError(err)
		}
	}
	// The receiver ends with this call, which cancels ctx and fails its Receive.
	go (&stdinReceiver{ctx: ctx, cancel: cancel, session: opened, stream: stream, body: bulkOf(ctx)}).run()
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

func openSession(ctx context.Context, container Container, first *agentv1.SessionRequest) (Session, error) {
	switch message := first.Message.(type) {
	case *agentv1.SessionRequest_OpenExec:
		return container.Exec(ctx, message.OpenExec)
	case *agentv1.SessionRequest_OpenAttach:
		return container.Attach(ctx, message.OpenAttach)
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("a session's first message must open it"))
}

// stdinReceiver forwards the client's input to the process until the client
// closes its half, leaves, or the session ends. It cancels the session if the
// stream is cut or breaks the contract.
type stdinReceiver struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	session Session
	stream  *sessionStream
	body    *bulkBody // nil: every message comes as an object
	offset  uint64
}

func (r *stdinReceiver) run() {
	for r.receive() {
	}
}

// receive handles one message. It reports whether more may follow.
func (r *stdinReceiver) receive() bool {
	offset, length, bulk := r.body.next(r.cancel)
	if bulk {
		return r.follows(offset) && r.moveData(length)
	}
	receive := r.stream.Receive
	if !r.body.ended() {
		receive = func() (*agentv1.SessionRequest, error) { return receiveAlive(r.cancel, r.stream.Receive) }
	}
	request, err := receive()
	if errors.Is(err, io.EOF) {
		return false // from now on the client only listens
	}
	if err != nil {
		r.cancel(err)
		return false
	}
	switch message := request.Message.(type) {
	case *agentv1.SessionRequest_Stdin:
		return r.follows(message.Stdin.Offset) && r.write(message.Stdin.Data)
	case *agentv1.SessionRequest_CloseStdin:
		r.session.CloseStdin()
	case *agentv1.SessionRequest_Leave:
		r.session.Leave()
		return false
	case *agentv1.SessionRequest_Heartbeat:
	default:
		r.cancel(connect.NewError(connect.CodeInvalidArgument, errors.New("a session is opened once")))
		return false
	}
	return true
}

// follows checks that no byte before offset is missing.
func (r *stdinReceiver) follows(offset uint64) bool {
	if offset != r.offset {
		r.cancel(connect.NewError(connect.CodeDataLoss, errors.New("stdin bytes are missing")))
		return false
	}
	return true
}

// moveData forwards a bulk message's data as it arrives.
func (r *stdinReceiver) moveData(length int) bool {
	buffer := bulkBuffers.Get().(*[bulkBufferSize]byte)
	defer bulkBuffers.Put(buffer)
	for length > 0 {
		n, err := r.body.data(r.cancel, buffer[:])
		if err != nil {
			r.cancel(err)
			return false
		}
		length -= n
		if !r.write(buffer[:n]) {
			return false
		}
	}
	return true
}

// write blocks while the process does not read. False: ctx is done.
func (r *stdinReceiver) write(data []byte) bool {
	r.offset += uint64(len(data))
	memory.Moved(len(data))
	return r.session.WriteStdin(r.ctx, data) == nil
}
