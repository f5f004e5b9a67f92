package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/cache/remotecache"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sockerless/sockerless/builder/worker"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// endlessCache is a registry that does not end its answer to a GET of a path with this part.
func endlessCache(t *testing.T, part string) (server *httptest.Server, asked, left <-chan struct{}) {
	t.Helper()
	manifest, err := json.Marshal(ocispecs.Index{
		MediaType: ocispecs.MediaTypeImageIndex,
		Manifests: []ocispecs.Descriptor{{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: digest.FromString("never"), Size: 1 << 20}},
	})
	assert.NilError(t, err)
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
	return map[string]string{"ref": strings.TrimPrefix(server.URL, "http://") + "/cache:1", "registry.insecure": "true"}
}

func TestABuildCacheWithoutEndHoldsUpNoBuildWithoutIt(t *testing.T) {
	server, asked, left := endlessCache(t, "/manifests/")
	s, _ := running(t)
	first := make(chan error, 1)
	go func() {
		first <- solved(s, "one", "first", &controlapi.CacheOptionsEntry{Type: "registry", Attrs: attributesOf(server)})
	}()
	<-asked
	assert.Check(t, solved(s, "two", "second"))
	select {
	case <-left:
		t.Error("the second build waited for the first one's cache")
	default:
	}
	server.CloseClientConnections()
	assert.Check(t, <-first)
}

func TestABuildCacheWithoutEndHoldsUpNoOtherBuildThoughItsStepIsUnderWay(t *testing.T) {
	registry, asked, left := endlessCache(t, "/manifests/")
	s, server := running(t)
	lasting, goOn := make(chan struct{}), make(chan struct{})
	var starts atomic.Int32
	server.Before = func(procedure string) {
		if procedure == "StartContainer" && starts.Add(1) == 1 {
			close(lasting)
			<-goOn
		}
	}
	shared := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil)).Run(llb.Args([]string{"one"})).Run(llb.Args([]string{"two"})).Root()
	ended := make(chan error, 2)
	go func() { ended <- solvedState(t.Context(), s, "one", shared) }()
	<-lasting
	go func() {
		ended <- solvedState(t.Context(), s, "two", shared, &controlapi.CacheOptionsEntry{Type: "registry", Attrs: attributesOf(registry)})
	}()
	<-asked
	time.Sleep(300 * time.Millisecond) // the steps are the second build's as well
	close(goOn)
	assert.Check(t, solved(s, "three", "another"))
	assert.Check(t, <-ended)
	select {
	case <-left:
		t.Error("they waited for the second build's cache")
	default:
	}
	registry.CloseClientConnections()
	assert.Check(t, <-ended)
}

func TestABuildCacheWithoutEndEndsItsImport(t *testing.T) {
	for name, part := range map[string]string{"the manifest": "/manifests/", "the configuration": "/blobs/"} {
		t.Run(name, func(t *testing.T) {
			server, _, _ := endlessCache(t, part)
			sessions, err := session.NewManager()
			assert.NilError(t, err)
			resolve := boundedImport(registryCache(sessions, (&worker.Worker{}).Hosts), newMemory(0), 200*time.Millisecond, layerPatience)
			importer, desc, err := resolve(t.Context(), session.NewGroup(), attributesOf(server))
			if err == nil {
				_, err = importer.Resolve(t.Context(), desc, "cache", nil)
			}
			assert.Check(t, is.ErrorContains(err, "within 200ms"))
		})
	}
}

// busyImporter puts a cache together until work ends, whatever its context says.
type busyImporter struct {
	remotecache.Importer
	work <-chan struct{}
}

func (i busyImporter) Resolve(context.Context, ocispecs.Descriptor, string, bkworker.Worker) (solver.CacheManager, error) {
	<-i.work
	return nil, nil
}

func TestABuildCacheThatIsPutTogetherTooLongIsLeftButItsMemoryIsWatched(t *testing.T) {
	work := make(chan struct{})
	defer close(work)
	m := newMemory(0)
	tooLong := errors.New("too long")
	importer := &boundedImporter{busyImporter{work: work}, &described{}, m, time.Now().Add(50 * time.Millisecond), tooLong, layerPatience}
	_, err := importer.Resolve(t.Context(), ocispecs.Descriptor{}, "cache", nil)
	assert.Check(t, is.ErrorIs(err, tooLong))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.building != 1 {
		t.Errorf("memory is looked at for %d", m.building)
	}
	assert.Check(t, !importer.described.isWhole.Load(), "what it reads on is not bounded")
}

// describe finds a server's cache and reads its description.
func describe(t *testing.T, server *httptest.Server) error {
	t.Helper()
	sessions, err := session.NewManager()
	assert.NilError(t, err)
	resolve := boundedImport(registryCache(sessions, (&worker.Worker{}).Hosts), newMemory(0), time.Minute, layerPatience)
	importer, desc, err := resolve(t.Context(), session.NewGroup(), attributesOf(server))
	assert.NilError(t, err)
	_, err = importer.Resolve(t.Context(), desc, "cache", nil)
	return err
}

// BuildKit allocates as many bytes as a descriptor says.
func TestABuildCacheOfImpossibleSizesIsRefused(t *testing.T) {
	describing := func(kind string, size int64) ocispecs.Descriptor {
		return ocispecs.Descriptor{MediaType: kind, Digest: digest.FromString("never"), Size: size}
	}
	for name, manifest := range map[string]any{
		"a configuration":     ocispecs.Index{MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{describing(cacheimporttypes.CacheConfigMediaTypeV0, -1)}},
		"an image":            ocispecs.Index{MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{describing(ocispecs.MediaTypeImageManifest, -1)}},
		"a large image":       ocispecs.Index{MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{describing(ocispecs.MediaTypeImageManifest, maxDescription+1)}},
		"an image's settings": ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: describing(ocispecs.MediaTypeImageConfig, -1), Layers: []ocispecs.Descriptor{describing(ocispecs.MediaTypeImageLayer, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", ocispecs.MediaTypeImageIndex)
				if !strings.Contains(r.URL.Path, digest.FromString("never").String()) {
					_ = json.NewEncoder(w).Encode(manifest)
				}
			}))
			defer server.Close()
			assert.Check(t, is.ErrorContains(describe(t, server), "bytes"), "it was read")
		})
	}
}

func TestDescriptionsOfABuildCacheAreBoundedInAll(t *testing.T) {
	var read described
	for range maxDescriptions / maxDescription {
		assert.NilError(t, read.check(maxDescription))
	}
	if err := read.check(1); err == nil {
		t.Error("more is read")
	}
	read.isWhole.Store(true)
	assert.Check(t, read.check(1<<40), "a layer")
}

func TestABuildCacheIsReadFromNoOtherAddress(t *testing.T) {
	var asked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", ocispecs.MediaTypeImageIndex)
			_ = json.NewEncoder(w).Encode(ocispecs.Index{MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{{
				MediaType: cacheimporttypes.CacheConfigMediaTypeV0, Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{other.URL},
			}}})
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	if err := describe(t, server); err == nil {
		t.Error("it was read")
	}
	if count := asked.Load(); count != 0 {
		t.Errorf("another server was asked %d times", count)
	}
}

// tricklingCache is a registry with a cache of results by these digests, whose layers come a byte now and then.
func tricklingCache(t *testing.T, results ...digest.Digest) (server *httptest.Server, fetches *atomic.Int32) {
	t.Helper()
	marshalled := func(value any) []byte {
		made, err := json.Marshal(value)
		assert.NilError(t, err)
		return made
	}
	var described cacheimporttypes.CacheConfig
	var index ocispecs.Index
	for at, result := range results {
		layer := digest.FromString(result.String())
		described.Layers = append(described.Layers, cacheimporttypes.CacheLayer{Blob: layer, ParentIndex: -1})
		described.Records = append(described.Records, cacheimporttypes.CacheRecord{
			Digest: digest.FromString(result.String() + "@0"), Results: []cacheimporttypes.CacheResult{{LayerIndex: at}},
		})
		index.Manifests = append(index.Manifests, ocispecs.Descriptor{
			MediaType: ocispecs.MediaTypeImageLayer, Digest: layer, Size: 1 << 20, Annotations: map[string]string{labels.LabelUncompressed: layer.String()},
		})
	}
	config := marshalled(described)
	index.MediaType = ocispecs.MediaTypeImageIndex
	index.Manifests = append(index.Manifests, ocispecs.Descriptor{
		MediaType: cacheimporttypes.CacheConfigMediaTypeV0, Digest: digest.FromBytes(config), Size: int64(len(config)),
	})
	manifest := marshalled(index)
	fetches = &atomic.Int32{}
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", ocispecs.MediaTypeImageIndex)
			_, _ = w.Write(manifest)
		case strings.HasSuffix(r.URL.Path, digest.FromBytes(config).String()):
			_, _ = w.Write(config)
		default:
			fetches.Add(1)
			for r.Context().Err() == nil {
				_, _ = fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server, fetches
}

func TestABuildCacheWhoseLayersTrickleIsLeft(t *testing.T) {
	results := []digest.Digest{digest.FromString("one"), digest.FromString("another")}
	server, fetches := tricklingCache(t, results...)
	s, backend := running(t)
	backend.Before = func(procedure string) {
		if procedure == "LoadImage" {
			backend.LosesALayer = true // it has none of the cache's
		}
	}
	resolve := boundedImport(registryCache(s.sessions, s.worker.Hosts), s.memory, importLimit, 500*time.Millisecond)
	importer, desc, err := resolve(t.Context(), session.NewGroup(), attributesOf(server))
	assert.NilError(t, err)
	imported, err := importer.Resolve(t.Context(), desc, "cache", s.worker)
	assert.NilError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, each := range results {
		keys, err := imported.Query(nil, 0, each, 0)
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		records, err := imported.Records(ctx, keys[0])
		if err != nil || len(records) != 1 {
			t.Fatal(records, err)
		}
		_, err = imported.Load(ctx, records[0])
		assert.Check(t, is.ErrorContains(err, "too slowly"), "it was loaded")
	}
	if count := fetches.Load(); count != 1 {
		t.Errorf("%d layers were asked for", count)
	}
}

func TestWhatComesOfABuildCacheGivesPatienceBack(t *testing.T) {
	w := newImpatientWorker(nil, time.Hour)
	w.left = time.Minute
	comes := func(seconds int) {
		_, _ = w.wait(func() (int, error) { return seconds * layerRate, nil })
	}
	comes(600)
	if w.left < 10*time.Minute || w.left > 11*time.Minute {
		t.Errorf("%s are left", w.left)
	}
	comes(2000)
	comes(2000)
	if w.left != time.Hour || w.ctx.Err() != nil {
		t.Errorf("%s are left, %v", w.left, w.ctx.Err())
	}
}

func TestTimeInWhichSeveralWaitForABuildCacheCountsOnce(t *testing.T) {
	w := newImpatientWorker(nil, time.Hour)
	began := time.Now()
	for range 100 {
		w.account(1, 0)
	}
	time.Sleep(20 * time.Millisecond)
	for range 100 {
		w.account(-1, 0)
	}
	if taken := time.Hour - w.left; taken < 20*time.Millisecond || taken > time.Since(began) {
		t.Errorf("%s were taken", taken)
	}
}
