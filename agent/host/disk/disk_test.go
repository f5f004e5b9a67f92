package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
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

// A container chooses how deep its trees are: a walk by whole paths takes a time
// that grows with the square of the depth.
func TestATreeOfAnyDepthIsMeasuredWithFewDescriptors(t *testing.T) {
	const depth = 3000
	dir := t.TempDir()
	defer func() {
		if err := confined.RemovePath(filepath.Join(dir, "d")); err != nil {
			t.Error(err)
		}
	}()
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		below, err := unix.Openat(fd, "d", unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = below
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err := errors.Join(err, unix.Ftruncate(file, 123)); err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
	unix.Close(fd)
	write(t, filepath.Join(dir, "z/beside"), 1000)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	if size, err := disk.Measure(context.Background(), dir); err != nil || size != 1123 {
		t.Fatal(size, err)
	}
}
