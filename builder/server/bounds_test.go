package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/llb"
)

// silentRegistry never answers. It counts its connections.
func silentRegistry(t *testing.T) (host string, asked *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	cache, names := &controlapi.CacheOptions{}, []string{}
	for at := range maxImports + 1 {
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
	if err != nil {
		t.Fatal(err)
	}
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
