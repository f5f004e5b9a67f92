package server

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	"github.com/sockerless/sockerless/builder/worker"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// running serves builds whose steps do nothing.
func running(t *testing.T) (*Server, *backendtest.Backend) {
	t.Helper()
	server, client := backendtest.Start(t)
	dir := t.TempDir()
	built, err := worker.New(context.Background(), client, dir, worker.Limits{Context: worker.ContextLimits{Bytes: 1 << 20, Entries: 100}}, nil)
	assert.NilError(t, err)
	t.Cleanup(func() { built.Close() })
	s, err := New(context.Background(), built, dir, 0, true)
	assert.NilError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, server
}

// solved is a build of BuildKit's client, which has a file and a step, and imports these caches.
func solved(s *Server, session, command string, imports ...*controlapi.CacheOptionsEntry) error {
	state := llb.Scratch().File(llb.Mkfile("/file", 0o644, []byte(command))).Run(llb.Args([]string{command})).Root()
	return solvedState(context.Background(), s, session, state, imports...)
}

func solvedState(ctx context.Context, s *Server, session string, state llb.State, imports ...*controlapi.CacheOptionsEntry) error {
	definition, err := definitionOf(ctx, state)
	if err != nil {
		return err
	}
	info := &grpc.UnaryServerInfo{FullMethod: controlapi.Control_Solve_FullMethodName}
	request := &controlapi.SolveRequest{Ref: identity.NewID(), Session: session, Definition: definition, Cache: &controlapi.CacheOptions{Imports: imports}}
	_, err = s.countBuilds(ctx, request, info, func(ctx context.Context, request any) (any, error) {
		return s.controller.Solve(ctx, request.(*controlapi.SolveRequest))
	})
	return err
}

func definitionOf(ctx context.Context, state llb.State) (*pb.Definition, error) {
	definition, err := state.Marshal(ctx, llb.Platform(ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, err
	}
	return definition.ToPB(), nil
}

func TestABackendThatHangsAtTheEndOfABuildHoldsUpNoOther(t *testing.T) {
	s, server := running(t)
	hanging, goOn := make(chan struct{}), make(chan struct{})
	var removals atomic.Int32
	server.Before = func(procedure string) {
		if procedure == "RemoveContainer" && removals.Add(1) == 1 {
			close(hanging)
			<-goOn
		}
	}
	first := make(chan error, 1)
	go func() { first <- solved(s, "one", "first") }()
	<-hanging
	assert.Check(t, solved(s, "two", "second"))
	select {
	case err := <-first:
		t.Errorf("the first build ended before its container had gone: %v", err)
	default:
	}
	close(goOn)
	assert.Check(t, <-first)
	assert.Check(t, is.Len(server.Containers(), 0))
}

func TestStepsThatLastHoldUpNoOtherClient(t *testing.T) {
	s, server := running(t)
	const many = 8
	lasting, goOn := make(chan struct{}, many), make(chan struct{})
	var starts atomic.Int32
	server.Before = func(procedure string) {
		if procedure == "StartContainer" && starts.Add(1) <= many {
			lasting <- struct{}{}
			<-goOn
		}
	}
	ended := make(chan error, many)
	for at := range many {
		go func() { ended <- solved(s, "one", fmt.Sprint("step ", at)) }()
	}
	for range many {
		<-lasting
	}
	assert.Check(t, solved(s, "two", "of another"))
	close(goOn)
	for range many {
		assert.Check(t, <-ended)
	}
}

// statesInUse counts the states that cannot be pruned.
func statesInUse(t *testing.T, s *Server) (count int) {
	t.Helper()
	all, err := s.worker.DiskUsage(t.Context(), client.DiskUsageInfo{})
	assert.NilError(t, err)
	for _, each := range all {
		if each.InUse {
			count++
		}
	}
	return count
}

func TestACancelledBuildLeavesNothingWhileAnotherIsHeld(t *testing.T) {
	s, server := running(t)
	holding, goOn := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var hold sync.Once
	server.Before = func(procedure string) {
		switch procedure {
		case "StartContainer":
			hold.Do(func() {
				close(holding)
				<-goOn
			})
		case "CreateContainer":
			select {
			case <-holding:
				cancel() // its checksum is being computed
			default:
			}
		}
	}
	held := make(chan error, 1)
	go func() { held <- solved(s, "one", "held") }()
	<-holding
	before := statesInUse(t, s)
	source := llb.Scratch().File(llb.Mkfile("/file", 0o644, []byte("cancelled")))
	err := solvedState(ctx, s, "two", llb.Scratch().File(llb.Copy(source, "/file", "/copy")))
	assert.Check(t, err != nil, "it was built") // The checksum fails, perhaps before the cancel is seen.
	after := statesInUse(t, s)
	for end := time.Now().Add(10 * time.Second); after != before && time.Now().Before(end); after = statesInUse(t, s) {
		time.Sleep(10 * time.Millisecond)
	}
	assert.Check(t, after == before, "%d states are in use instead of %d", after, before)
	close(goOn)
	assert.Check(t, <-held)
}

// BuildKit checks all results of a step in the one goroutine that schedules every build.
func TestTheBackendIsAskedForTheResultOfAStepThatIsUsedOnly(t *testing.T) {
	s, server := running(t)
	step := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)).Run(llb.Args([]string{"step"})).Root()
	anew := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)).Run(llb.Args([]string{"step"}), llb.IgnoreCache).Root()
	const many = 12
	for range many {
		assert.NilError(t, solvedState(t.Context(), s, "one", anew))
	}
	if all, err := s.worker.DiskUsage(t.Context(), client.DiskUsageInfo{}); err != nil || len(all) < many {
		t.Fatalf("%d states, %v", len(all), err)
	}
	var asked, started atomic.Int32
	server.Before = func(procedure string) {
		switch procedure {
		case "InspectImage":
			asked.Add(1)
		case "StartContainer":
			started.Add(1)
		}
	}
	assert.Check(t, solvedState(t.Context(), s, "two", step))
	if count := asked.Load(); count > 3 || started.Load() > 0 {
		t.Errorf("it was asked %d times, and the step was run %d times", count, started.Load())
	}
	for _, image := range server.Images() {
		_, err := server.RemoveImage(t.Context(), connect.NewRequest(&backendv1.RemoveImageRequest{Image: image}))
		assert.NilError(t, err)
	}
	if err := solvedState(t.Context(), s, "three", step); err != nil || started.Load() != 1 {
		t.Errorf("without its results the step was run %d times, %v", started.Load(), err)
	}
}
