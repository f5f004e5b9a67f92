package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"
)

// inCall begins a session within a call.
func inCall(t *testing.T, of *client.Client) controlapi.Control_SessionClient {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-docker-expose-session-uuid", identity.NewID())
	made, err := of.ControlClient().Session(ctx)
	assert.NilError(t, err)
	_, err = made.Recv()
	assert.NilError(t, err)
	return made
}

func TestTheClientWhoseCallsHoldMostIsCut(t *testing.T) {
	s, _ := running(t)
	s.held.limit = 4 << 20
	_, connect := served(t, s)
	few, many := connect(), connect()
	one := inCall(t, few)
	const sessions = 25
	ended := make(chan error, sessions)
	for range sessions {
		each, err := many.ControlClient().Session(t.Context())
		assert.NilError(t, err)
		go func() {
			for {
				if _, err := each.Recv(); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	assert.Check(t, <-ended != nil)
	// It goes on.
	_, err := one.Recv()
	assert.NilError(t, err)
	_, err = few.ControlClient().Info(t.Context(), &controlapi.InfoRequest{})
	assert.Check(t, err)
}

func TestManyClientsThatHoldLessHaveNoneCutThatBuilds(t *testing.T) {
	s, server := running(t)
	_, connect := served(t, s)
	const builds, sessions, clients = 40, 12, 16
	began, goOn := make(chan struct{}, builds), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "StartContainer" {
			began <- struct{}{}
			<-goOn
		}
	}
	many := connect()
	var solving errgroup.Group
	for range builds {
		ref := identity.NewID()
		definition, err := definitionOf(t.Context(), llb.Scratch().Run(llb.Args([]string{ref})).Root())
		assert.NilError(t, err)
		following, err := many.ControlClient().Status(t.Context(), &controlapi.StatusRequest{Ref: ref})
		assert.NilError(t, err)
		solving.Go(func() error {
			_, err := many.ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: ref, Definition: definition})
			return err
		})
		solving.Go(func() error {
			for {
				if _, err := following.Recv(); err != nil {
					return nil
				}
			}
		})
	}
	<-began
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.building < builds {
			return poll.Continue("%d builds", s.building)
		}
		return poll.Success()
	}, poll.WithTimeout(20*time.Second))
	s.held.limit = 16 << 20
	for range clients {
		each := connect()
		for range sessions {
			if _, err := each.ControlClient().Session(t.Context()); err != nil {
				break
			}
		}
	}
	_, err := connect().ControlClient().Info(t.Context(), &controlapi.InfoRequest{})
	assert.Check(t, err)
	close(goOn)
	assert.Check(t, solving.Wait())
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	assert.Check(t, len(s.held.by) < clients+2, "no client was cut")
}

func TestManyBuildsDoNotKeepWhoHoldsMostFromBeingCut(t *testing.T) {
	h := held{limit: maxHeld, by: map[*connection]int{}}
	honest := &connection{}
	h.enter(honest)
	assert.Check(t, h.count(honest, 10*(buildShare+callBytes)) == nil)
	for range 10 {
		h.beginBuild(honest)
	}
	for range 3 {
		many := &connection{}
		h.enter(many)
		for range 900 {
			h.beginBuild(many)
		}
		for range 110 << 20 / callBytes {
			if surplus := h.count(many, callBytes); surplus != nil {
				assert.Check(t, surplus != honest)
				return
			}
		}
	}
	t.Error("nobody was cut")
}

func TestListsOfTheCacheThatNobodyReadsAreCounted(t *testing.T) {
	s, _ := running(t)
	address, connect := served(t, s)
	state := llb.Scratch()
	for range 64 {
		state = state.File(llb.Mkfile(identity.NewID(), 0o644, nil), llb.WithCustomName(strings.Repeat("n", 4000)))
	}
	assert.NilError(t, solvedState(t.Context(), s, "one", state))
	s.held.limit = 4 << 20
	var dials atomic.Int32
	many, err := grpc.NewClient("passthrough:builder", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(1<<16),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if dials.Add(1) > 1 {
				return nil, errors.New("it is cut")
			}
			return dialer(address, "/grpc", http.Header{})
		}))
	assert.NilError(t, err)
	defer many.Close()
	for range 40 {
		// Without a read no more than the stream's window is sent.
		stream, err := many.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, controlapi.Control_DiskUsage_FullMethodName)
		if err != nil || stream.SendMsg(&controlapi.DiskUsageRequest{}) != nil || stream.CloseSend() != nil {
			break
		}
	}
	waiting, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	assert.Check(t, many.WaitForStateChange(waiting, connectivity.Ready), "the client is served")
	listed, err := connect().ControlClient().DiskUsage(t.Context(), &controlapi.DiskUsageRequest{})
	assert.NilError(t, err)
	assert.Check(t, is.Len(listed.Record, 64))
}

func TestWhatHasEndedIsNotCounted(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	of := connect()
	definition, err := definitionOf(t.Context(), llb.Scratch().File(llb.Mkfile("file", 0o644, make([]byte, 100_000))))
	assert.NilError(t, err)
	for range 10 {
		_, err := of.ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: identity.NewID(), Definition: definition})
		assert.NilError(t, err)
		assert.Check(t, len(listed(t, of)) > 0)
		following, stop := context.WithCancel(t.Context())
		events, err := of.ControlClient().ListenBuildHistory(following, &controlapi.BuildHistoryRequest{})
		assert.NilError(t, err)
		_, err = events.Recv()
		assert.NilError(t, err)
		stop()
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		s.held.mu.Lock()
		defer s.held.mu.Unlock()
		if s.held.sum != 0 {
			return poll.Continue("%d bytes", s.held.sum)
		}
		return poll.Success()
	}, poll.WithTimeout(10*time.Second))
}

func TestAMessageHoldsWhatIsCounted(t *testing.T) {
	client := &connection{}
	all := &held{limit: maxHeld, by: map[*connection]int{client: 0}}
	for _, length := range []int{10, 1500, 40_000, 2 << 20} {
		made, err := answers{encoding.GetCodecV2("proto"), holding{all, client}}.Marshal(&controlapi.BytesMessage{Data: make([]byte, length)})
		assert.NilError(t, err)
		if text := made.Materialize(); length > 1024 {
			assert.Check(t, cap(made[0].ReadOnlyData()) <= all.sum && all.sum < 2*len(text), "%d bytes are counted as %d", len(text), all.sum)
		}
		made.Free()
		assert.Equal(t, all.sum, 0)
	}
}

func TestHeadersOfACallAreBounded(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	control := connect().ControlClient()
	_, err := control.Info(t.Context(), &controlapi.InfoRequest{})
	assert.NilError(t, err)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "text", strings.Repeat("x", maxHeaders))
	_, err = control.Info(ctx, &controlapi.InfoRequest{})
	assert.Check(t, is.ErrorContains(err, "header list size"))
}

func TestAFollowerOfTheHistoryThatDoesNotReadIsCut(t *testing.T) {
	s, _ := running(t)
	s.listings.patience = 100 * time.Millisecond
	_, connect := served(t, s)
	events, err := connect().ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{ActiveOnly: true})
	assert.NilError(t, err)
	_, err = events.Header()
	assert.NilError(t, err)
	for range 4 {
		_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{
			Ref: identity.NewID(), Frontend: "unknown", FrontendAttrs: map[string]string{"attribute": strings.Repeat("x", 200_000)},
		})
		assert.Check(t, err != nil, "an unknown frontend has built")
	}
	for {
		time.Sleep(2 * s.listings.patience)
		if _, err := events.Recv(); err != nil {
			assert.Check(t, is.ErrorContains(err, "was not read"))
			return
		}
	}
}
