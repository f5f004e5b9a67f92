package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func makeLayers(t *testing.T, count int) (dir string, lower []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir = t.TempDir()
	for i := range count {
		layer := filepath.Join(dir, "layers", fmt.Sprintf("%024d", i), "diff")
		if err := os.MkdirAll(layer, 0o755); err != nil {
			t.Fatal(err)
		}
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
	if err := overlay.Mount(merged); err != nil {
		t.Fatal(err)
	}
	defer Unmount(merged)
	entries, err := os.ReadDir(merged)
	if err != nil || len(entries) != 128 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if top, _ := os.ReadFile(filepath.Join(merged, "top")); string(top) != "126" {
		t.Errorf("the top layer does not win: %q", top)
	}
	if err := os.WriteFile(filepath.Join(merged, "new"), nil, 0o644); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "upper", "new")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := Unmount(merged); err != nil {
			t.Error(err)
		}
	}
	if entries, _ := os.ReadDir(merged); len(entries) != 0 {
		t.Error("still mounted")
	}
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
	if err := os.MkdirAll(filepath.Join(container, "init"), 0o755); err != nil {
		t.Fatal(err)
	}
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
	if err := (Overlay{Lower: lower}).Mount(merged); err != nil {
		t.Fatal(err)
	}
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
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatal(err)
	}
	defer Unmount(dir)
	of := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged", "elsewhere"} {
		if err := os.Mkdir(of(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	free := func() uint64 {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Bfree
	}
	before := free()
	if err := (Overlay{Lower: []string{of("lower")}, Upper: of("upper"), Work: of("work")}).Mount(of("merged")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(of("merged"), of("elsewhere"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer Unmount(of("elsewhere"))
	if err := os.WriteFile(of("merged/big"), make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DropCaches(of("merged")); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(of("merged")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(of("upper")); err != nil {
		t.Fatal(err)
	}
	if after := free(); after < before {
		t.Fatalf("%d blocks are free, %d were", after, before)
	}
	if err := DropCaches(of("merged")); err != nil {
		t.Fatal("nothing is mounted:", err)
	}
}
