package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/llbbuild"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/worker"
)

// silentRegistry never answers. It counts its connections.
func silentRegistry(t *testing.T) (host string, asked *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	asked = &atomic.Int32{}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return listener.Addr().String(), asked
}

func TestABuildWithTooManyCachesIsRefusedBeforeAnyIsAsked(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	host, asked := silentRegistry(t)
	definition, err := definitionOf(t.Context(), llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)))
	assert.NilError(t, err)
	cache, names := &controlapi.CacheOptions{}, []string{}
	for at := range worker.MaxImports + 1 {
		name := fmt.Sprintf("%s/cache%d", host, at)
		names = append(names, name)
		cache.Imports = append(cache.Imports, &controlapi.CacheOptionsEntry{
			Type: "registry", Attrs: map[string]string{"ref": name, "registry.insecure": "true"},
		})
	}
	const refusal = "the build imports 65 caches, more than the 64 that it may import"
	if _, err = connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: "a", Definition: definition, Cache: cache}); err == nil || !strings.Contains(err.Error(), refusal) {
		t.Errorf("buildx: %v", err)
	}
	list, err := json.Marshal(names)
	assert.NilError(t, err)
	answer := httptest.NewRecorder()
	body := bytes.NewReader(archived(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
	s.build(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/build?"+url.Values{"cachefrom": {string(list)}}.Encode(), body))
	if !strings.Contains(answer.Body.String(), refusal) {
		t.Errorf("the Docker API: %s", answer.Body)
	}
	if asked.Load() > 0 {
		t.Errorf("%d connections", asked.Load())
	}
}

// TestADefinitionOfTooManyInputsIsRefusedHoweverItComes solves one by each way on which a definition comes: of a client, of
// a client's frontend, and of an operation.
func TestADefinitionOfTooManyInputsIsRefusedHoweverItComes(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	states := make([]llb.State, 5000)
	for at := range states {
		states[at] = llb.Scratch().File(llb.Mkfile("/file", 0o644, nil))
	}
	marshalled, err := llb.Merge(states).Marshal(t.Context())
	assert.NilError(t, err)
	dir := t.TempDir()
	var text bytes.Buffer
	if err := errors.Join(llb.WriteTo(marshalled, &text), os.WriteFile(filepath.Join(dir, pb.LLBDefaultDefinitionFile), text.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	defer s.worker.Serve("files", dir)()
	_, ofClient := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: "a", Definition: marshalled.ToPB()})
	_, ofFrontend := connect().Build(t.Context(), client.SolveOpt{}, "", func(ctx context.Context, own gateway.Client) (*gateway.Result, error) {
		return own.Solve(ctx, gateway.SolveRequest{Definition: marshalled.ToPB()})
	}, nil)
	ofOperation := solvedState(t.Context(), s, "a", llb.Local("context", llb.SessionID("files")).With(llbbuild.Build()))
	for name, err := range map[string]error{"a client": ofClient, "a client's frontend": ofFrontend, "an operation": ofOperation} {
		assert.Check(t, is.ErrorContains(err, "an operation of the build has 5000 inputs, more than the 1024 that it may have"), name)
	}
	// The solver has none of their operations.
	if usage, err := s.worker.DiskUsage(t.Context(), client.DiskUsageInfo{}); err != nil || len(usage) > 0 {
		t.Errorf("%v, %v", usage, err)
	}
}

// TestAnOperationBuildsNothingThatBuildsItself solves operations that build what a client's file defines.
func TestAnOperationBuildsNothingThatBuildsItself(t *testing.T) {
	s, _ := running(t)
	dir := t.TempDir()
	defer s.worker.Serve("files", dir)()
	files := llb.Local("context", llb.SessionID("files"))
	for name, state := range map[string]llb.State{
		"files":  llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)),
		"builds": files.With(llbbuild.Build(llbbuild.WithFilename("files"))),
	} {
		marshalled, err := state.Marshal(t.Context())
		assert.NilError(t, err)
		var text bytes.Buffer
		assert.NilError(t, errors.Join(llb.WriteTo(marshalled, &text), os.WriteFile(filepath.Join(dir, name), text.Bytes(), 0o600)))
	}
	assert.Check(t, solvedState(t.Context(), s, "a", files.With(llbbuild.Build(llbbuild.WithFilename("files")))))
	err := solvedState(t.Context(), s, "a", files.With(llbbuild.Build(llbbuild.WithFilename("builds"))))
	assert.Check(t, is.ErrorContains(err, "llb.Build within the definition of another llb.Build"))
}
