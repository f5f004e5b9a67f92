package server

import (
	"context"
	"slices"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxListings bounds the lists of the history that are under way.
const maxListings = 8

// listings are the lists of the history under way, the oldest first: each has all records in memory until its client has read
// them. Of too many the oldest ends.
type listings struct {
	mu      sync.Mutex
	running []*context.CancelCauseFunc
}

// run lists until the list ends or gives way to newer ones.
func (l *listings) run(ctx context.Context, list func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.mu.Lock()
	l.running = append(l.running, &cancel)
	if len(l.running) > maxListings {
		(*l.running[0])(status.Error(codes.ResourceExhausted, "too many lists of the history are under way: this one was the oldest"))
		l.running = l.running[1:]
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = slices.DeleteFunc(l.running, func(each *context.CancelCauseFunc) bool { return each == &cancel })
	}()
	_, err := untilDone(ctx, func() (struct{}, error) { return struct{}{}, list() })
	return err
}

// boundListings bounds the lists of the history. Whoever follows it besides counts only until its list ends; one build's record
// is small.
func (s *Server) boundListings(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod != controlapi.Control_ListenBuildHistory_FullMethodName {
		return handle(server, stream)
	}
	asked := &controlapi.BuildHistoryRequest{}
	if err := stream.RecvMsg(asked); err != nil {
		return err
	}
	list := &listing{ServerStream: stream, asked: asked, sending: &sync.Mutex{}}
	if asked.Ref != "" || asked.ActiveOnly {
		return handle(server, list)
	}
	all := func() error { return s.listings.run(stream.Context(), func() error { return handle(server, list) }) }
	if asked.EarlyExit {
		return all()
	}
	// It follows from before the list begins, to miss nothing.
	follow := &listing{ServerStream: stream, asked: proto.CloneOf(asked), sending: list.sending, isSecond: true}
	follow.asked.ActiveOnly, asked.EarlyExit = true, true
	ended := make(chan error, 1)
	go func() {
		_, err := untilDone(stream.Context(), func() (struct{}, error) { return struct{}{}, handle(server, follow) })
		ended <- err
	}()
	if err := all(); err != nil {
		return err
	}
	return <-ended
}

// listing is a stream whose request was read; two may share one.
type listing struct {
	grpc.ServerStream
	asked    *controlapi.BuildHistoryRequest
	sending  *sync.Mutex
	isSecond bool
}

func (l *listing) RecvMsg(into any) error {
	proto.Merge(into.(proto.Message), l.asked)
	return nil
}

func (l *listing) SendMsg(message any) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	return l.ServerStream.SendMsg(message)
}

// SendHeader sends those of the first alone.
func (l *listing) SendHeader(headers metadata.MD) error {
	if l.isSecond {
		return nil
	}
	return l.ServerStream.SendHeader(headers)
}
