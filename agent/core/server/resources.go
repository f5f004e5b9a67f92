package server

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// statsEvery is the interval between two readings of a container's resource use;
// a variable for tests.
var statsEvery = time.Second

// Resources is the part of a Container that measures and limits its processes'
// resource use.
type Resources interface {
	// Meter opens readings of a running container.
	Meter(context.Context) (Meter, error)
	// Top lists the container's processes as ps does.
	Top(ctx context.Context, psArguments string) (*agentv1.TopResponse, error)
	// Update changes limits: OCI linux.resources, JSON.
	Update(ctx context.Context, ociResources []byte) error
}

// Meter reads the resource use of one run of a container.
type Meter interface {
	// Read takes a reading. After the container's end it fails with
	// fs.ErrNotExist, or Done is closed.
	Read() (*agentv1.StatsResponse, error)
	// Done is closed when the container's main process has ended.
	Done() <-chan struct{}
}

// Meter is not implemented.
func (u Unimplemented) Meter(context.Context) (Meter, error) { return nil, u.cannot("Stats") }

// Top is not implemented.
func (u Unimplemented) Top(context.Context, string) (*agentv1.TopResponse, error) {
	return nil, u.cannot("Top")
}

// Update is not implemented.
func (u Unimplemented) Update(context.Context, []byte) error { return u.cannot("Update") }

func (s *service) Top(ctx context.Context, request *connect.Request[agentv1.TopRequest]) (*connect.Response[agentv1.TopResponse], error) {
	return unary(ctx, s, request, func(c Container, top *agentv1.TopRequest) (*agentv1.TopResponse, error) {
		return c.Top(ctx, top.PsArgs)
	})
}

func (s *service) Update(ctx context.Context, request *connect.Request[agentv1.UpdateRequest]) (*connect.Response[agentv1.UpdateResponse], error) {
	return unary(ctx, s, request, func(c Container, update *agentv1.UpdateRequest) (*agentv1.UpdateResponse, error) {
		return &agentv1.UpdateResponse{}, c.Update(ctx, update.OciResources)
	})
}

// Stats sends readings, one a second. It ends with the container.
func (s *service) Stats(ctx context.Context, request *connect.Request[agentv1.StatsRequest], stream *connect.ServerStream[agentv1.StatsResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	meter, err := container.Meter(ctx)
	if err != nil {
		return wireError(err)
	}
	// If one response takes two readings, the first is not sent, only compared
	// with.
	unsent := !request.Msg.Stream && !request.Msg.OneShot
	var previous *agentv1.StatsResponse
	for {
		reading, err := meter.Read()
		if errors.Is(err, fs.ErrNotExist) || change.IsClosed(meter.Done()) {
			return endOfStats(request.Msg)
		}
		if err != nil {
			return wireError(err)
		}
		if previous != nil {
			reading.PreviousCpu, reading.PreviousRead = previous.Cpu, previous.Read
		}
		if !unsent {
			if err := stream.Send(reading); err != nil {
				return err
			}
			if !request.Msg.Stream {
				return nil
			}
		}
		unsent, previous = false, reading
		select {
		case <-time.After(statsEvery): // measured from the reading: intervals are never shorter
		case <-meter.Done():
			return endOfStats(request.Msg)
		case <-ctx.Done():
			return wireError(context.Cause(ctx))
		}
	}
}

// endOfStats ends readings after the container's end: a stream is complete, a
// single response is missing.
func endOfStats(request *agentv1.StatsRequest) error {
	if request.Stream {
		return nil
	}
	return connect.NewError(connect.CodeFailedPrecondition, errors.New("the container is not running"))
}
