package volumes

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	"github.com/sockerless/sockerless/agent/host/volumes/local"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func setUp(t *testing.T) (image *confined.Root, store *Store, volume string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"data/a": "a", "data/b/c": "c"} {
		path := filepath.Join(dir, "image", name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		assert.NilError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	image, err := confined.Open(filepath.Join(dir, "image"))
	assert.NilError(t, err)
	t.Cleanup(func() { image.Close() })
	can, err := trash.Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	store, err = Open(Options{Dir: filepath.Join(dir, "volumes"), RunDir: filepath.Join(dir, "run"), Trash: can, UserPaths: userpaths.New(), Drivers: []driver.Driver{local.Driver{}}})
	assert.NilError(t, err)
	for range 2 {
		made, err := store.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "v", Driver: "local"})
		assert.NilError(t, err)
		volume = made.Path
	}
	return image, store, volume
}

func TestASeedingThatWasBrokenOffIsCompleted(t *testing.T) {
	image, store, volume := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, store.Seed(ctx, image, "/data", volume, "holder"), context.Canceled)
	// As left by a process killed meanwhile.
	os.WriteFile(filepath.Join(volume, "a"), []byte("half"), 0o600)
	assert.NilError(t, store.Seed(t.Context(), image, "/data", volume, "holder"))
	for name, want := range map[string]string{"a": "a", "b/c": "c"} {
		if content, err := os.ReadFile(filepath.Join(volume, name)); string(content) != want {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	os.WriteFile(filepath.Join(volume, "a"), []byte("mine"), 0o600)
	assert.NilError(t, store.Seed(t.Context(), image, "/data", volume, "holder"))
	if content, _ := os.ReadFile(filepath.Join(volume, "a")); string(content) != "mine" {
		t.Errorf("a full volume was filled again: %q", content)
	}
	entries, _ := os.ReadDir(filepath.Dir(volume))
	assert.Check(t, is.Len(entries, 1), "the marker is left")
}

// One with the volume may have been running all the time.
func TestASeedingThatWasBrokenOffIsNotCompletedByAnother(t *testing.T) {
	image, store, volume := setUp(t)
	assert.NilError(t, store.Hold(t.Context(), "running", volume))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, store.Seed(ctx, image, "/data", volume, "holder"), context.Canceled)
	os.WriteFile(filepath.Join(volume, "a"), []byte("mine"), 0o600)
	for _, holder := range []string{"another", "holder"} {
		assert.NilError(t, store.Seed(t.Context(), image, "/data", volume, holder))
		if content, _ := os.ReadFile(filepath.Join(volume, "a")); string(content) != "mine" {
			t.Errorf("%s has overwritten it: %q", holder, content)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(volume))
	assert.Check(t, is.Len(entries, 1), "the marker is left")
}

// One that has started since may have written to it.
func TestASeedingThatWasBrokenOffIsForgottenOnceAnotherHoldsTheVolume(t *testing.T) {
	image, store, volume := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, store.Seed(ctx, image, "/data", volume, "holder"), context.Canceled)
	assert.NilError(t, store.Hold(t.Context(), "another", filepath.Join(volume, "part")))
	os.WriteFile(filepath.Join(volume, "a"), []byte("mine"), 0o600)
	assert.NilError(t, store.Seed(t.Context(), image, "/data", volume, "holder"))
	if content, _ := os.ReadFile(filepath.Join(volume, "a")); string(content) != "mine" {
		t.Errorf("it is overwritten: %q", content)
	}
}

func TestAFileIsNoContentForAVolume(t *testing.T) {
	image, store, volume := setUp(t)
	assert.NilError(t, store.Seed(t.Context(), image, "/data/a", volume, "holder"))
	entries, _ := os.ReadDir(volume)
	assert.Check(t, is.Len(entries, 0))
}

func TestAPartIsSeededBesideTheRestAndNeverOutside(t *testing.T) {
	image, store, volume := setUp(t)
	outside := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(volume, "part"), 0o755),
		os.Symlink(outside, filepath.Join(volume, "link")),
		store.Seed(t.Context(), image, "/data", filepath.Join(volume, "part"), "holder"),
	} {
		assert.NilError(t, err)
	}
	if content, err := os.ReadFile(filepath.Join(volume, "part", "b/c")); string(content) != "c" {
		t.Errorf("%q, %v", content, err)
	}
	entries, _ := os.ReadDir(filepath.Dir(volume))
	assert.Check(t, is.Len(entries, 1), "the marker is left")
	// Another container with the volume swaps the part for a link that leads out
	// of it.
	ctx, done := context.WithCancel(t.Context())
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for ctx.Err() == nil {
			unix.Renameat2(unix.AT_FDCWD, volume+"/part", unix.AT_FDCWD, volume+"/link", unix.RENAME_EXCHANGE)
		}
	}()
	for range 200 {
		for _, name := range []string{"part", "link"} {
			os.RemoveAll(filepath.Join(volume, name, "a"))
			os.RemoveAll(filepath.Join(volume, name, "b"))
		}
		if err := store.Seed(t.Context(), image, "/data", filepath.Join(volume, "part"), "holder"); err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Fatal(err)
		}
		entries, _ := os.ReadDir(outside)
		assert.Assert(t, is.Len(entries, 0), "written outside")
	}
	done()
	<-swapped
}
