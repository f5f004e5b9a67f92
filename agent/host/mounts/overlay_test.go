package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func makeLayers(t *testing.T, count int) (dir string, lower []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir = t.TempDir()
	for i := range count {
		layer := filepath.Join(dir, "layers", fmt.Sprintf("%024d", i), "diff")
		assert.NilError(t, os.MkdirAll(layer, 0o755))
		os.WriteFile(filepath.Join(layer, fmt.Sprint("file", i)), nil, 0o644)
		os.WriteFile(filepath.Join(layer, "top"), fmt.Append(nil, i), 0o644)
		lower = append([]string{layer}, lower...)
	}
	for _, name := range []string{"upper", "work", "merged"} {
		os.Mkdir(filepath.Join(dir, name), 0o755)
	}
	return dir, lower
}

func testOverlay(t *testing.T, dir string, lower []string) {
	t.Helper()
	merged := filepath.Join(dir, "merged")
	overlay := Overlay{Lower: lower, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	assert.NilError(t, overlay.Mount(merged))
	defer Unmount(merged)
	entries, err := os.ReadDir(merged)
	if err != nil || len(entries) != 128 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if top, _ := os.ReadFile(filepath.Join(merged, "top")); string(top) != "126" {
		t.Errorf("the top layer does not win: %q", top)
	}
	assert.Check(t, os.WriteFile(filepath.Join(merged, "new"), nil, 0o644))
	_, err = os.Stat(filepath.Join(dir, "upper", "new"))
	assert.Check(t, err)
	for range 2 {
		assert.Check(t, Unmount(merged))
	}
	entries, _ = os.ReadDir(merged)
	assert.Check(t, is.Len(entries, 0), "still mounted")
}

func TestOverlayOf127Layers(t *testing.T) {
	dir, lower := makeLayers(t, 127)
	testOverlay(t, dir, lower)
	if withoutLowerPlus.Load() {
		t.Log("this kernel has no lowerdir+")
	}
}

func TestOverlayOf127LayersOnOlderKernels(t *testing.T) {
	dir, lower := makeLayers(t, 127)
	// As a container has it: its own layers have long paths.
	container := filepath.Join(dir, "containers", strings.Repeat("0123456789abcdef", 4))
	assert.NilError(t, os.MkdirAll(filepath.Join(container, "init"), 0o755))
	for _, name := range []string{"upper", "work", "merged"} {
		os.Mkdir(filepath.Join(container, name), 0o755)
	}
	lower = append([]string{filepath.Join(container, "init")}, lower...)
	before := withoutLowerPlus.Swap(true)
	defer withoutLowerPlus.Store(before)
	testOverlay(t, container, lower)
}

func TestOverlayWithoutUpperIsReadOnly(t *testing.T) {
	dir, lower := makeLayers(t, 1)
	merged := filepath.Join(dir, "merged")
	assert.NilError(t, (Overlay{Lower: lower}).Mount(merged))
	defer Unmount(merged)
	if err := os.WriteFile(filepath.Join(merged, "new"), nil, 0o644); err == nil {
		t.Error("a file was written")
	}
}

// The namespaces kept from a build's step keep its overlay mounted.
func TestFilesOfAnOverlayThatIsMountedElsewhereToo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"))
	defer Unmount(dir)
	of := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged", "elsewhere"} {
		assert.NilError(t, os.Mkdir(of(name), 0o755))
	}
	free := func() uint64 {
		var stat unix.Statfs_t
		assert.NilError(t, unix.Statfs(dir, &stat))
		return stat.Bfree
	}
	before := free()
	assert.NilError(t, (Overlay{Lower: []string{of("lower")}, Upper: of("upper"), Work: of("work")}).Mount(of("merged")))
	assert.NilError(t, unix.Mount(of("merged"), of("elsewhere"), "", unix.MS_BIND, ""))
	defer Unmount(of("elsewhere"))
	assert.NilError(t, os.WriteFile(of("merged/big"), make([]byte, 16<<20), 0o600))
	assert.NilError(t, DropCaches(of("merged")))
	assert.NilError(t, Unmount(of("merged")))
	assert.NilError(t, os.RemoveAll(of("upper")))
	if after := free(); after < before {
		t.Fatalf("%d blocks are free, %d were", after, before)
	}
	assert.NilError(t, DropCaches(of("merged")), "nothing is mounted")
}
