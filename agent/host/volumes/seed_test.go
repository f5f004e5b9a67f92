package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/trash"
)

func setUp(t *testing.T) (image *confined.Root, volume string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"data/a": "a", "data/b/c": "c"} {
		path := filepath.Join(dir, "image", name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image, err := confined.Open(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	can, err := trash.Open(filepath.Join(dir, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(can.Close)
	store, err := Open(filepath.Join(dir, "volumes"), can)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if volume, err = store.Create("v"); err != nil {
			t.Fatal(err)
		}
	}
	return image, volume
}

func TestASeedingThatWasBrokenOffIsCompleted(t *testing.T) {
	image, volume := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Seed(ctx, image, "/data", volume); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	// As far as a process had got that was killed meanwhile.
	os.WriteFile(filepath.Join(volume, "a"), []byte("half"), 0o600)
	if err := Seed(t.Context(), image, "/data", volume); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "a", "b/c": "c"} {
		if content, err := os.ReadFile(filepath.Join(volume, name)); string(content) != want {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	os.WriteFile(filepath.Join(volume, "a"), []byte("mine"), 0o600)
	if err := Seed(t.Context(), image, "/data", volume); err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(filepath.Join(volume, "a")); string(content) != "mine" {
		t.Errorf("a full volume was filled again: %q", content)
	}
	if entries, _ := os.ReadDir(filepath.Dir(volume)); len(entries) != 1 {
		t.Errorf("the marker is left: %v", entries)
	}
}

func TestAFileIsNoContentForAVolume(t *testing.T) {
	image, volume := setUp(t)
	if err := Seed(t.Context(), image, "/data/a", volume); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(volume); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
}
