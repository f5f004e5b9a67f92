package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxListings bounds the lists of the history that are under way.
const maxListings = 8

// listings are the lists of the history under way, the oldest first: each has all records in memory until its client has read
// them. Of too many the oldest of the client that has most ends.
type listings struct {
	patience time.Duration
	mu       sync.Mutex
	running  []*listing
}

// listing is the stream of a list, by the client's connection.
type listing struct {
	grpc.ServerStream
	all *listings
	ctx context.Context
	end context.CancelCauseFunc
	by  *connection
}

func (l *listings) enter(list *listing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = append(l.running, list)
	if len(l.running) <= maxListings {
		return
	}
	counts := map[*connection]int{}
	for _, each := range l.running {
		counts[each.by]++
	}
	surplus := slices.MaxFunc(l.running, func(a, b *listing) int { return cmp.Compare(counts[a.by], counts[b.by]) })
	surplus.end(status.Error(codes.ResourceExhausted, "too many lists of the history are under way, and the client of this one had most"))
	l.remove(surplus)
}

func (l *listings) leave(list *listing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(list)
}

func (l *listings) remove(list *listing) {
	l.running = slices.DeleteFunc(l.running, func(each *listing) bool { return each == list })
}

// boundUsage makes lists of the build cache one after the other, of which each has all records in memory, and one of a client
// at a time.
func (s *Server) boundUsage(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	by := connectionOf(ctx)
	if info.FullMethod != controlapi.Control_DiskUsage_FullMethodName || by == nil {
		return handle(ctx, request)
	}
	for _, turn := range []*semaphore.Weighted{by.listing, s.calledListing} {
		if err := turn.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		defer turn.Release(1)
	}
	return handle(ctx, request)
}

// boundListings bounds the lists of the history. One build's record is small, and uncounted.
func (s *Server) boundListings(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod != controlapi.Control_ListenBuildHistory_FullMethodName {
		return handle(server, stream)
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	list := &listing{stream, &s.listings, ctx, end, connectionOf(ctx)}
	defer s.listings.leave(list)
	_, err := untilDone(ctx, func() (struct{}, error) { return struct{}{}, handle(server, list) })
	return err
}

// RecvMsg counts the list once it is asked for.
func (l *listing) RecvMsg(into any) error {
	err := l.ServerStream.RecvMsg(into)
	if asked, ok := into.(*controlapi.BuildHistoryRequest); ok && err == nil && asked.Ref == "" && !asked.ActiveOnly {
		l.all.enter(l)
	}
	return err
}

// maxUnread bounds how long a client may leave an event: BuildKit keeps all later ones for it, without a bound.
const maxUnread = 10 * time.Second

// SendMsg ends a list whose client does not read.
func (l *listing) SendMsg(event any) error {
	unread := time.AfterFunc(l.all.patience, func() {
		l.end(status.Errorf(codes.ResourceExhausted, "an event of the history was not read for %s", l.all.patience))
	})
	defer unread.Stop()
	return l.ServerStream.SendMsg(event)
}

func (l *listing) Context() context.Context { return followed{l.ctx, l} }

// followed is the context of a list. BuildKit waits for its end once the records are sent, and it follows the history: from then
// on the list is uncounted.
type followed struct {
	context.Context
	list *listing
}

func (f followed) Done() <-chan struct{} {
	f.list.all.leave(f.list)
	return f.Context.Done()
}
