package server

import (
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// fakeMeter counts its readings, and is gone after some.
type fakeMeter struct {
	readings, goneAfter uint64
	done                chan struct{}
}

func (m *fakeMeter) Read() (*agentv1.StatsResponse, error) {
	m.readings++
	if m.goneAfter > 0 && m.readings > m.goneAfter {
		return nil, fmt.Errorf("the control group: %w", fs.ErrNotExist)
	}
	return &agentv1.StatsResponse{
		Read: &timestamppb.Timestamp{Seconds: int64(m.readings)},
		Cpu:  &agentv1.CpuStats{TotalUsageNs: m.readings},
	}, nil
}

func (m *fakeMeter) Done() <-chan struct{} { return m.done }

type meteredContainer struct {
	Unimplemented
	meter *fakeMeter
}

func (c *meteredContainer) Meter(context.Context) (Meter, error) { return c.meter, nil }

// stats requests readings of a meter.
func stats(t *testing.T, meter *fakeMeter, request *agentv1.StatsRequest) *connect.ServerStreamForClient[agentv1.StatsResponse] {
	t.Helper()
	every := statsEvery
	statsEvery = time.Millisecond
	t.Cleanup(func() { statsEvery = every })
	if meter.done == nil {
		meter.done = make(chan struct{})
	}
	server := httptest.NewServer(NewHandler(func(context.Context, string) (Container, error) {
		return &meteredContainer{meter: meter}, nil
	}))
	t.Cleanup(server.Close)
	client := agentv1connect.NewAgentServiceClient(server.Client(), server.URL)
	stream, err := client.Stats(contextFor(t), connect.NewRequest(request))
	assert.NilError(t, err)
	t.Cleanup(func() { stream.Close() })
	return stream
}

func TestOneShotIsOneReading(t *testing.T) {
	stream := stats(t, &fakeMeter{}, &agentv1.StatsRequest{OneShot: true})
	if !stream.Receive() || stream.Msg().Cpu.TotalUsageNs != 1 || stream.Msg().PreviousCpu != nil {
		t.Fatal(stream.Msg(), stream.Err())
	}
	if stream.Receive() || stream.Err() != nil {
		t.Fatal(stream.Msg(), stream.Err())
	}
}

func TestASingleResponseHasThePreviousReading(t *testing.T) {
	stream := stats(t, &fakeMeter{}, &agentv1.StatsRequest{})
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if m := stream.Msg(); m.Cpu.TotalUsageNs != 2 || m.PreviousCpu.GetTotalUsageNs() != 1 || m.PreviousRead.GetSeconds() != 1 {
		t.Fatal(m)
	}
	if stream.Receive() || stream.Err() != nil {
		t.Fatal(stream.Msg(), stream.Err())
	}
}

func TestAStreamOfReadingsEndsWithTheContainer(t *testing.T) {
	stream := stats(t, &fakeMeter{goneAfter: 3}, &agentv1.StatsRequest{Stream: true})
	for n := uint64(1); n <= 3; n++ {
		if !stream.Receive() || stream.Msg().Cpu.TotalUsageNs != n || stream.Msg().PreviousCpu.GetTotalUsageNs() != n-1 {
			t.Fatal(n, stream.Msg(), stream.Err())
		}
	}
	if stream.Receive() || stream.Err() != nil {
		t.Fatal(stream.Msg(), stream.Err())
	}
}

func TestAContainerThatEndsOwesTheAnswer(t *testing.T) {
	for name, meter := range map[string]*fakeMeter{
		"its control group is gone": {goneAfter: 1},
		"its process has ended":     {done: closed()},
	} {
		stream := stats(t, meter, &agentv1.StatsRequest{})
		if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeFailedPrecondition {
			t.Error(name, stream.Msg(), stream.Err())
		}
	}
}

func closed() chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}
