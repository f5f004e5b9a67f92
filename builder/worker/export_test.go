package worker

import (
	"context"
	"testing"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestADirectoryThatIsExportedIsAState(t *testing.T) {
	w, _ := workerOf(t)
	ctx := context.Background()
	dir, err := w.contexts.take("")
	must(t, err)
	write(t, dir.path, "file", "content")
	files := w.contextRef("context", dir)
	defer files.Release(ctx)
	for _, source := range []*exporter.Source{{Ref: files}, {Refs: map[string]cache.ImmutableRef{"linux/amd64": files}}, {}} {
		states, release, err := w.statesOf(ctx, source)
		must(t, err)
		found, _ := states.FindRef("linux/amd64")
		assert.Assert(t, (found == nil) == (source.Ref == nil && source.Refs == nil), "found %v", found)
		if found != nil {
			known, err := stateOf(found)
			must(t, err)
			if len(known.diffIDs) != 1 || !w.states.isInUse(known.id) {
				t.Errorf("%v of layers %v", known.id, known.diffIDs)
			}
		}
		release()
		if found != nil && w.states.isInUse(found.ID()) {
			t.Error("it is not let go of")
		}
	}
}

func TestAStateWithoutLayersIsExportedAsNone(t *testing.T) {
	w, _ := workerOf(t)
	ctx := context.Background()
	empty, err := w.states.install(ctx, nil, nil, origin{description: "empty", kind: client.UsageRecordTypeRegular})
	must(t, err)
	state := w.stateRef(empty)
	defer state.Release(ctx)
	states, release, err := w.statesOf(ctx, &exporter.Source{Ref: state})
	defer release()
	if err != nil || states.Ref != nil {
		t.Errorf("it is %v, %v", states.Ref, err)
	}
}

func TestOptionsThatAnImageWouldNotHaveAreRefused(t *testing.T) {
	w, server := workerOf(t)
	for refused, attributes := range map[string]map[string]string{
		"push-by-digest=true":   {"name": "registry.example/a", "push": "true", "push-by-digest": "true"},
		"push-by-digest=":       {"name": "registry.example/a", "push-by-digest": ""},
		"annotation.a=1":        {"annotation.a": "1"},
		"compression=zstd":      {"compression": "zstd"},
		"rewrite-timestamp=1":   {"rewrite-timestamp": "1"},
		"name-canonical=true":   {"name-canonical": "true"},
		"oci-mediatypes=true":   {"oci-mediatypes": "true"},
		"dangling-name-prefix=": {"dangling-name-prefix": ""},
		"store=false":           {"store": "false"},
		"registry.insecure=1":   {"registry.insecure": "1"},
		"oci-artifact=true":     {"oci-artifact": "true"},
		`value specified for unpack: strconv.ParseBool: parsing "maybe"`: {"unpack": "maybe"},
		`value specified for store: strconv.ParseBool: parsing "no"`:     {"store": "no"},
	} {
		instance, err := (&imageExporter{worker: w}).Resolve(context.Background(), 0, attributes)
		assert.NilError(t, err)
		_, _, _, err = instance.Export(context.Background(), &exporter.Source{}, exporter.ExportBuildInfo{})
		assert.Check(t, is.ErrorContains(err, refused), attributes)
	}
	assert.Check(t, is.Len(server.Images(), 0))
	if err := refuseOptions(map[string]string{"name": "a,b", "push": "true", "push-by-digest": "false", "unpack": "false", "store": "", "unheard-of": "x", "source-date-epoch": "1", "prefer-image-digest": "true"}); err != nil {
		t.Error(err)
	}
}

func TestAnOptionWithoutAValueIsOn(t *testing.T) {
	for text, want := range map[string]bool{"": true, "true": true, "0": false} {
		made, err := (&imageExporter{}).Resolve(context.Background(), 0, map[string]string{"push": text})
		if err != nil || made.(*imageExport).push != want {
			t.Errorf("push=%s: %v, %v", text, made, err)
		}
	}
}
