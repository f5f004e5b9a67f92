package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/session"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// endlessCache is a registry that does not end its answer to a GET of a path with this part.
func endlessCache(t *testing.T, part string) (server *httptest.Server, asked, left <-chan struct{}) {
	t.Helper()
	manifest, err := json.Marshal(ocispecs.Index{
		MediaType: ocispecs.MediaTypeImageIndex,
		Manifests: []ocispecs.Descriptor{{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: digest.FromString("never"), Size: 1 << 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
	begun, ended := make(chan struct{}), make(chan struct{})
	var beginning, ending sync.Once
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispecs.MediaTypeImageIndex)
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
			_, _ = w.Write(manifest)
			return
		}
		_, _ = fmt.Fprint(w, " ")
		w.(http.Flusher).Flush()
		beginning.Do(func() { close(begun) })
		<-r.Context().Done()
		ending.Do(func() { close(ended) })
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server, begun, ended
}

// attributesOf are those of `--cache-from type=registry`.
func attributesOf(server *httptest.Server) map[string]string {
	return map[string]string{"ref": strings.TrimPrefix(server.URL, "http://") + "/cache:1", "insecure": "true"}
}

func TestABuildCacheWithoutEndHoldsUpNoBuildWithoutIt(t *testing.T) {
	server, asked, left := endlessCache(t, "/manifests/")
	s, _ := running(t)
	first := make(chan error, 1)
	go func() {
		first <- solved(s, "one", "first", &controlapi.CacheOptionsEntry{Type: "registry", Attrs: attributesOf(server)})
	}()
	<-asked
	if err := solved(s, "two", "second"); err != nil {
		t.Error(err)
	}
	select {
	case <-left:
		t.Error("the second build waited for the first one's cache")
	default:
	}
	server.CloseClientConnections()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestABuildCacheWithoutEndEndsItsImport(t *testing.T) {
	for name, part := range map[string]string{"the manifest": "/manifests/", "the configuration": "/blobs/"} {
		t.Run(name, func(t *testing.T) {
			server, _, _ := endlessCache(t, part)
			sessions, err := session.NewManager()
			if err != nil {
				t.Fatal(err)
			}
			resolve := boundedImport(registrycache.ResolveCacheImporterFunc(sessions, nil, nil), 200*time.Millisecond)
			importer, desc, err := resolve(t.Context(), session.NewGroup(), attributesOf(server))
			if err == nil {
				_, err = importer.Resolve(t.Context(), desc, "cache", nil)
			}
			if err == nil || !strings.Contains(err.Error(), "within 200ms") {
				t.Error(err)
			}
		})
	}
}

// BuildKit makes room for as many bytes as a descriptor says.
func TestABuildCacheOfANegativeSizeIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispecs.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(ocispecs.Index{
			MediaType: ocispecs.MediaTypeImageIndex,
			Manifests: []ocispecs.Descriptor{{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: digest.FromString("never"), Size: -1}},
		})
	}))
	defer server.Close()
	sessions, err := session.NewManager()
	if err != nil {
		t.Fatal(err)
	}
	resolve := boundedImport(registrycache.ResolveCacheImporterFunc(sessions, nil, nil), time.Minute)
	importer, desc, err := resolve(t.Context(), session.NewGroup(), attributesOf(server))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = importer.Resolve(t.Context(), desc, "cache", nil); err == nil {
		t.Error("a cache of -1 bytes was read")
	}
}
