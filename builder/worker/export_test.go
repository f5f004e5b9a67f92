package worker

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/buildkit/exporter"
)

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
	} {
		instance, err := (&imageExporter{worker: w}).Resolve(context.Background(), 0, attributes)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := instance.Export(context.Background(), &exporter.Source{}, exporter.ExportBuildInfo{}); err == nil || !strings.Contains(err.Error(), refused) {
			t.Errorf("%v: %v", attributes, err)
		}
	}
	if left := server.Images(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if err := refuseOptions(map[string]string{"name": "a,b", "push": "true", "push-by-digest": "false", "unpack": "false", "store": "false", "source-date-epoch": "1", "prefer-image-digest": "true"}); err != nil {
		t.Error(err)
	}
}
