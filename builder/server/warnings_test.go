package server

import (
	"context"
	"testing"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"gotest.tools/v3/assert"
)

// warned is a bridge that counts the bytes of warnings, and solves by another frontend.
type warned struct {
	frontend.FrontendLLBBridge
	solving frontend.Frontend
	bytes   int
}

func (w *warned) Warn(_ context.Context, _ digest.Digest, text string, _ frontend.WarnOpts) error {
	w.bytes += len(text)
	return nil
}

func (w *warned) Solve(ctx context.Context, _ frontend.SolveRequest, _ string) (*frontend.Result, error) {
	return w.solving.Solve(ctx, w, nil, nil, nil, "", nil)
}

// warning is a frontend that warns with 6 MiB, and solves as often as depth.
type warning struct{ depth *int }

func (w warning) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, _ executor.Executor, _ map[string]string, _ map[string]*pb.Definition, _ string, _ *session.Manager) (*frontend.Result, error) {
	for range 100 {
		if err := bridge.Warn(ctx, "", string(make([]byte, 60<<10)), frontend.WarnOpts{}); err != nil {
			return nil, err
		}
	}
	if *w.depth--; *w.depth < 0 {
		return &frontend.Result{}, nil
	}
	return bridge.Solve(ctx, frontend.SolveRequest{}, "")
}

func TestWarningsOfABuildAreBounded(t *testing.T) {
	s, _ := running(t)
	depth := 2
	frontends := &named{warning{&depth}, s}
	bridge := &warned{solving: frontends}
	_, err := frontends.Solve(t.Context(), bridge, nil, nil, nil, "", nil)
	assert.NilError(t, err)
	assert.Check(t, bridge.bytes > 3<<20 && bridge.bytes <= 4<<20, "%d bytes", bridge.bytes)
}

func TestWarningsOfABuildKitClientAreBounded(t *testing.T) {
	s, _ := running(t)
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &address{connection: &connection{}}})
	passed := 0
	for range 100 {
		_, err := s.countBuilds(ctx, &gatewaypb.WarnRequest{Short: make([]byte, 60<<10)}, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) {
			passed++
			return nil, nil
		})
		assert.NilError(t, err)
	}
	assert.Check(t, passed > 50 && passed < 70, "%d warnings", passed)
}
