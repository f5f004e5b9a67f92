package host_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

func TestAMountInsideOfAVolumeThatChangesMakesNothingOutside(t *testing.T) {
	other := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(other, "file"), []byte("mounted\n"), 0o644))
	makesNothingOutside(t, func(spec []byte, i, part int) []byte {
		return withBind(t, spec, other, fmt.Sprintf("/v/part/directory-%d-%d", i, part))
	})
}

func TestADeviceInsideOfAVolumeThatChangesIsMadeNowhereOutside(t *testing.T) {
	makesNothingOutside(t, func(spec []byte, i, part int) []byte {
		return withDevice(t, spec, fmt.Sprintf("/v/part/device-%d-%d", i, part))
	})
}

func withDevice(t *testing.T, spec []byte, path string) []byte {
	t.Helper()
	var config map[string]any
	assert.NilError(t, json.Unmarshal(spec, &config))
	linux := config["linux"].(map[string]any)
	devices, _ := linux["devices"].([]any)
	linux["devices"] = append(devices, map[string]any{"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666})
	changed, err := json.Marshal(config)
	assert.NilError(t, err)
	return changed
}

// makesNothingOutside launches containers with a volume at /v while /v/part is
// being replaced by a link. add requests one more thing there.
func makesNothingOutside(t *testing.T, add func(spec []byte, launch, part int) []byte) {
	t.Helper()
	h := startHost(t)
	layer := h.unpackImage(t)
	data, outside := h.volume(t, "shared"), t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(data, "part"), 0o755),
		os.Symlink(outside, filepath.Join(data, "link")),
	} {
		assert.NilError(t, err)
	}
	stop := swapPartAndLink(data)
	launched, launches := 0, 60
	if testing.Short() {
		launches = 15
	}
	for i := range launches {
		id := h.create(t, layer)
		request := sleeper(t, id, layer, noNetwork())
		request.OciSpec = withBind(t, request.OciSpec, data, "/v")
		for part := range 8 {
			request.OciSpec = add(request.OciSpec, i, part)
		}
		if _, err := h.launch(t, request); err == nil {
			launched++
		}
		h.release(t, id)
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			t.Fatalf("after %d launches, outside is made %v", i+1, entries)
		}
	}
	stop()
	t.Logf("%d launched", launched)
}
