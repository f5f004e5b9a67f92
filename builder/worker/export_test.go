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
		"store=false":           {"store": "false"},
		"registry.insecure=1":   {"registry.insecure": "1"},
		"oci-artifact=true":     {"oci-artifact": "true"},
		`value specified for unpack: strconv.ParseBool: parsing "maybe"`: {"unpack": "maybe"},
		`value specified for store: strconv.ParseBool: parsing "no"`:     {"store": "no"},
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
