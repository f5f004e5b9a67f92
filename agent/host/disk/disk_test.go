package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockerless/sockerless/agent/host/disk"
)

func write(t *testing.T, name string, size int) {
	t.Helper()
	if err := errors.Join(
		os.MkdirAll(filepath.Dir(name), 0o755),
		os.WriteFile(name, make([]byte, size), 0o600),
	); err != nil {
		t.Fatal(err)
	}
}

func TestBytesOfRegularFilesCountEachFileOnce(t *testing.T) {
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, "large"), 1<<20)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), 100)
	write(t, filepath.Join(dir, "deep/er/b"), 23)
	if err := errors.Join(
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "deep/same")),
		os.Symlink(elsewhere, filepath.Join(dir, "deep/out")),
		os.Symlink(filepath.Join(elsewhere, "large"), filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	if size, err := disk.Measure(context.Background(), dir); err != nil || size != 123 {
		t.Fatal(size, err)
	}
}

func TestWhatDoesNotExistHoldsNothing(t *testing.T) {
	if size, err := disk.Measure(context.Background(), filepath.Join(t.TempDir(), "gone")); err != nil || size != 0 {
		t.Fatal(size, err)
	}
}

func TestAMeasurementEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := disk.Measure(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
