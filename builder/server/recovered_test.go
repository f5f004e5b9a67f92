package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/llbbuild"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
)

// TestAPanicOfAnOperationIsItsBuildsErrorAlone solves what BuildKit panics for: a definition without operations, and
// one in a state without files.
func TestAPanicOfAnOperationIsItsBuildsErrorAlone(t *testing.T) {
	s, _ := running(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, pb.LLBDefaultDefinitionFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer s.worker.Serve("files", dir)()
	file := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil))
	for name, from := range map[string]llb.State{
		"an empty definition": llb.Local("context", llb.SessionID("files")), "no files": llb.Diff(file, file),
	} {
		err := solvedState(context.Background(), s, "a", from.With(llbbuild.Build()))
		if err == nil || !strings.Contains(err.Error(), "the builder failed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := solved(s, "a", "a"); err != nil {
		t.Error(err)
	}
}

func TestAPanicOfACallIsItsErrorAlone(t *testing.T) {
	_, err := recoverCall(t.Context(), nil, nil, func(context.Context, any) (any, error) { panic("it fails") })
	streamErr := recoverStream(nil, nil, nil, func(any, grpc.ServerStream) error { panic("it fails") })
	for _, each := range []error{err, streamErr} {
		if each == nil || !strings.Contains(each.Error(), "the builder failed: it fails") {
			t.Error(each)
		}
	}
}
