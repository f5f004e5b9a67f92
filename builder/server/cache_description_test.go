package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// describedBy reads the description of a cache with a manifest that names this configuration.
func describedBy(t *testing.T, kind string, config any) error {
	t.Helper()
	document, err := json.Marshal(config)
	assert.NilError(t, err)
	manifest := ocispecs.Manifest{
		MediaType: ocispecs.MediaTypeImageManifest,
		Config:    ocispecs.Descriptor{MediaType: kind, Digest: digest.FromBytes(document), Size: int64(len(document))},
		Layers:    []ocispecs.Descriptor{{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 1}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = w.Write(document)
			return
		}
		w.Header().Set("Content-Type", ocispecs.MediaTypeImageManifest)
		_ = json.NewEncoder(w).Encode(manifest)
	}))
	defer server.Close()
	return describe(t, server)
}

func TestABuildCacheOfAnImageWithoutAHistoryIsRefused(t *testing.T) {
	image := func(steps ...ocispecs.History) any {
		return map[string]any{
			"rootfs": ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("layer")}}, "history": steps,
			"moby.buildkit.cache.v0": []byte(`[{"digest":"` + digest.FromString("step").String() + `","layers":[{"layer":0}]}]`),
		}
	}
	for name, config := range map[string]any{"none": image(), "an empty one": image(ocispecs.History{EmptyLayer: true})} {
		assert.Check(t, is.ErrorContains(describedBy(t, ocispecs.MediaTypeImageConfig, config), "fewer steps than layers"), name)
	}
	assert.Check(t, describedBy(t, ocispecs.MediaTypeImageConfig, image(ocispecs.History{})))
}

// record has its digest by a name and, by input, the indexes of those that it stands on.
func record(name string, inputs ...[]int) cacheimporttypes.CacheRecord {
	made := cacheimporttypes.CacheRecord{Digest: digest.FromString(name)}
	for _, links := range inputs {
		var each []cacheimporttypes.CacheInput
		for _, link := range links {
			each = append(each, cacheimporttypes.CacheInput{LinkIndex: link})
		}
		made.Inputs = append(made.Inputs, each)
	}
	return made
}

// BuildKit panics over the one when it is not sent, and does not read the other from where it is checked.
func TestDescriptorsOfABuildCacheAreChecked(t *testing.T) {
	const loop = `{"records":[{"inputs":[[{"link":0}]]}]}`
	for name, each := range map[string]ocispecs.Descriptor{
		"no digest":        {MediaType: cacheimporttypes.CacheConfigMediaTypeV0, Digest: "none", Size: 2},
		"a whole document": {MediaType: cacheimporttypes.CacheConfigMediaTypeV0, Digest: digest.FromString(loop), Size: int64(len(loop)), Data: []byte(loop)},
	} {
		for kind, manifest := range map[string]any{
			ocispecs.MediaTypeImageIndex:    ocispecs.Index{MediaType: ocispecs.MediaTypeImageIndex, Manifests: []ocispecs.Descriptor{each}},
			ocispecs.MediaTypeImageManifest: ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: each},
		} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/blobs/") {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", kind)
				_ = json.NewEncoder(w).Encode(manifest)
			}))
			if err := describe(t, server); err == nil || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "failed") {
				t.Errorf("%s of %s: %v", name, kind, err)
			}
			server.Close()
		}
	}
}

// BuildKit's own attestations have their configuration within its descriptor.
func TestADescriptorMayContainItsDocument(t *testing.T) {
	var steps atomic.Int64
	attestation, err := json.Marshal(ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Config: ocispecs.DescriptorEmptyJSON})
	assert.NilError(t, err)
	assert.Check(t, checkDescription(attestation, &steps))
}

func TestRecordsOfABuildCacheThatStandOnThemselvesAreRefused(t *testing.T) {
	var config cacheimporttypes.CacheConfig
	for range 20 { // BuildKit makes half of them a loop.
		root := len(config.Records)
		config.Records = append(config.Records,
			record("root"+digest.FromString(string(rune(root))).String()), record("twice", []int{root}), record("between", []int{root + 1}),
			record("twice", []int{root + 2}), record("twice", []int{root, root + 2}), record("last", []int{root + 2}))
	}
	inline, err := json.Marshal(config.Records)
	assert.NilError(t, err)
	for kind, document := range map[string]any{
		cacheimporttypes.CacheConfigMediaTypeV0: map[string]any{"records": config.Records, "moby.buildkit.cache.v0": []byte("[]")},
		ocispecs.MediaTypeImageConfig:           map[string]any{"moby.buildkit.cache.v0": inline},
	} {
		assert.Check(t, is.ErrorContains(describedBy(t, kind, document), errRecordLoop.Error()), kind)
	}
}

// BuildKit copies the links of what stands on equal records for each of these, each time.
func TestRecordsOfABuildCacheThatAreJoinedTooOftenAreRefused(t *testing.T) {
	var records []cacheimporttypes.CacheRecord
	add := func(name string, inputs ...[]int) int {
		records = append(records, record(name, inputs...))
		return len(records) - 1
	}
	root := add("root")
	var all, joined []int
	for at := range 500 {
		all = append(all, add("root "+strconv.Itoa(at)))
	}
	for _, each := range all {
		joined = append(joined, add("equal", []int{each}))
	}
	for at := range 2000 {
		joined = append(joined, add("other "+strconv.Itoa(at)))
	}
	add("above", joined)
	for _, each := range all {
		add("equal", []int{root, each})
	}
	for range 1000 {
		add("equal", []int{root})
	}
	var steps atomic.Int64
	if err := checkRecords(cacheimporttypes.CacheConfig{Records: records}, &steps); !errors.Is(err, errRecordSteps) {
		t.Errorf("%d steps: %v", steps.Load(), err)
	}
}

// BuildKit keeps equal records beside the one that they are joined to, and steps from each to each of what stands on them.
func TestEqualRecordsOfABuildCacheAreNotSteppedOverTooOften(t *testing.T) {
	var records []cacheimporttypes.CacheRecord
	add := func(name string, inputs ...[]int) int {
		records = append(records, record(name, inputs...))
		return len(records) - 1
	}
	root := add("root")
	var bases, all []int
	for at := range 1000 {
		bases = append(bases, add("base "+strconv.Itoa(at), []int{root}))
	}
	base := add("above", bases)
	for at := range 100 {
		all = append(all, add("root "+strconv.Itoa(at)))
	}
	for _, each := range all {
		add("third", []int{add("second", []int{add("first", []int{base}, []int{each})})})
	}
	joined := add("first", []int{base}, all)
	for range 100 {
		add("second", []int{joined})
	}
	for at := range bases {
		add("base "+strconv.Itoa(at), []int{root})
	}
	var steps atomic.Int64
	if err := checkRecords(cacheimporttypes.CacheConfig{Records: records}, &steps); !errors.Is(err, errRecordSteps) {
		t.Errorf("%d steps: %v", steps.Load(), err)
	}
}

// BuildKit makes a list of all its layers for each result.
func TestResultsOfABuildCacheWithTooManyLayersInAllAreRefused(t *testing.T) {
	const count = 2000
	var config cacheimporttypes.CacheConfig
	digests, history := make([]digest.Digest, count), make([]ocispecs.History, count)
	for at := range count {
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{ParentIndex: at - 1})
		each := record("step")
		each.Results = []cacheimporttypes.CacheResult{{LayerIndex: at}}
		config.Records = append(config.Records, each)
	}
	inline, err := json.Marshal(config.Records)
	assert.NilError(t, err)
	chained := record("step")
	chained.ChainedResults = []cacheimporttypes.ChainedResult{{LayerIndexes: make([]int, 1<<21)}}
	for name, each := range map[string]any{
		"of a cache":     config,
		"of an image":    map[string]any{"rootfs": ocispecs.RootFS{DiffIDs: digests}, "history": history, "moby.buildkit.cache.v0": inline},
		"without an end": cacheimporttypes.CacheConfig{Layers: []cacheimporttypes.CacheLayer{{}}, Records: config.Records[:1]},
		"chained":        cacheimporttypes.CacheConfig{Records: []cacheimporttypes.CacheRecord{chained}},
	} {
		document, err := json.Marshal(each)
		assert.NilError(t, err)
		var steps atomic.Int64
		assert.Check(t, is.ErrorIs(checkDescription(document, &steps), errRecordSteps), name)
	}
}

// BuildKit computes a digest of all layers of a record's results each time that it looks for them.
func TestResultsOfOneRecordOfABuildCacheWithTooManyLayersAreRefused(t *testing.T) {
	config := cacheimporttypes.CacheConfig{Layers: []cacheimporttypes.CacheLayer{{ParentIndex: -1}}}
	for range 127 {
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{ParentIndex: len(config.Layers) - 1})
	}
	result := cacheimporttypes.CacheResult{LayerIndex: len(config.Layers) - 1}
	root, other, both := record("root"), record("other"), record("equal", []int{0, 1})
	for range 10 {
		root.Results = append(root.Results, result)
	}
	equal := record("equal", []int{0})
	equal.Results = root.Results
	sameEqual := record("equal", []int{1})
	sameEqual.Results = root.Results
	both.Results = append(both.Results, root.Results...)
	config.Records = []cacheimporttypes.CacheRecord{root, other, equal, sameEqual}
	var steps atomic.Int64
	assert.Check(t, checkRecords(config, &steps))
	config.Records = append(config.Records, both, both)
	assert.Check(t, is.ErrorIs(checkRecords(config, &steps), errRecordSteps), "results of equal records")
	root.Results = append(append(root.Results, root.Results...), root.Results...)
	root.Results = append(root.Results, root.Results...)
	if err := checkRecords(cacheimporttypes.CacheConfig{Layers: config.Layers, Records: []cacheimporttypes.CacheRecord{root}}, &steps); !errors.Is(err, errRecordSteps) {
		t.Errorf("results of a record: %v", err)
	}
}

func TestRecordsOfABuildCacheWithEqualDigestsAreRead(t *testing.T) {
	config := cacheimporttypes.CacheConfig{Records: []cacheimporttypes.CacheRecord{
		record("one"), record("two"), record("three"),
		// A step that follows an equal one.
		record("twice", []int{0}), record("twice", []int{3}), record("last", []int{4}),
		// Steps that turn out to be one, and one of both inputs.
		record("same", []int{0}), record("above", []int{6}), record("same", []int{1}), record("same", []int{0, 1, 2}), record("both", []int{6}, []int{9}),
		// A step that stands on the result of one with its digest as well.
		record("again", []int{0}), record("result", []int{11}), record("again", []int{0}),
	}}
	assert.Check(t, describedBy(t, cacheimporttypes.CacheConfigMediaTypeV0, config))
	many := make([]cacheimporttypes.CacheRecord, 5000)
	many[0] = record("root")
	for at := range many[1:] {
		many[at+1] = record("step", []int{at})
	}
	assert.Check(t, describedBy(t, cacheimporttypes.CacheConfigMediaTypeV0, cacheimporttypes.CacheConfig{Records: many}))
}
