package server

import (
	"cmp"
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Watch sends the container's events.
func (s *service) Watch(ctx context.Context, request *connect.Request[agentv1.WatchRequest], stream *connect.ServerStream[agentv1.WatchResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	watcher, err := container.Watch(ctx)
	if err != nil {
		return wireError(err)
	}
	defer watcher.Close()
	out := newSender(stream.Send, func() *agentv1.WatchResponse {
		return &agentv1.WatchResponse{Event: &agentv1.WatchResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	for {
		event, err := watcher.Next(ctx)
		if err != nil {
			return wireError(err)
		}
		if _, last := event.Event.(*agentv1.WatchResponse_Released); last {
			return out.finish(event)
		}
		if err := out.Send(event); err != nil {
			return err
		}
	}
}

// Logs sends the recorded output.
func (s *service) Logs(ctx context.Context, request *connect.Request[agentv1.LogsRequest], stream *connect.ServerStream[agentv1.LogsResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	if err := checkRecords(request.Msg); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	reader, err := container.Logs(ctx, readOptions(request.Msg))
	if errors.Is(err, log.ErrDisabled) {
		return connect.NewError(connect.CodeUnimplemented, err)
	}
	if err != nil {
		return wireError(err)
	}
	defer reader.Close()
	heartbeat := func() *agentv1.LogsResponse {
		return &agentv1.LogsResponse{Message: &agentv1.LogsResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	}
	out := newSender(stream.Send, heartbeat)
	defer out.stop()
	to := newLogOut(ctx, container, request.Msg, out)
	if request.Msg.Follow {
		// The first message confirms that the log was found, since the log itself
		// may be silent for long.
		if err := out.Send(heartbeat()); err != nil {
			return err
		}
	}
	return to.end(readAll(to, reader, request.Msg.Records))
}

// readAll sends all that can be read, and then the first damage. Records end there: in
// what is made of them nothing may be missing.
func readAll(to *logOut, reader *log.Reader, isRecords bool) error {
	var lost error
	for {
		chunk, err := reader.Next(to.ctx)
		var damaged *log.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return lost
		case errors.As(err, &damaged):
			lost = cmp.Or(lost, error(connect.NewError(connect.CodeDataLoss, err)))
			if isRecords {
				return lost
			}
			continue
		case err != nil:
			return wireError(err)
		}
		if err := to.write(chunk); err != nil {
			return err
		}
	}
}

func readOptions(request *agentv1.LogsRequest) log.ReadOptions {
	return log.ReadOptions{
		Stdout:     request.Stdout,
		Stderr:     request.Stderr,
		Follow:     request.Follow,
		Timestamps: request.Timestamps,
		Prefix:     request.LinePrefix,
		Since:      request.SinceUnixNs,
		Until:      request.UntilUnixNs,
		Tail:       request.Tail,
		Form:       log.Form(request.Form),
		Records:    request.Records,
	}
}

// checkRecords refuses options that select lines together with records.
func checkRecords(request *agentv1.LogsRequest) error {
	others := request.Stdout || request.Stderr || request.Timestamps || request.LinePrefix != "" ||
		request.SinceUnixNs != nil || request.UntilUnixNs != nil || request.Tail != nil || request.Form != 0 ||
		request.HandOver
	if request.Records && others {
		return errors.New("`records` goes together with `follow` only")
	}
	return nil
}
