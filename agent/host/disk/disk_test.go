package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/removal"
	"github.com/sockerless/sockerless/agent/host/disk"
)

func write(t *testing.T, name string, size int) {
	t.Helper()
	assert.NilError(t, errors.Join(
		os.MkdirAll(filepath.Dir(name), 0o755),
		os.WriteFile(name, make([]byte, size), 0o600),
	))
}

func TestBytesOfRegularFilesCountEachFileOnce(t *testing.T) {
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, "large"), 1<<20)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), 100)
	write(t, filepath.Join(dir, "deep/er/b"), 23)
	assert.NilError(t, errors.Join(
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "deep/same")),
		os.Symlink(elsewhere, filepath.Join(dir, "deep/out")),
		os.Symlink(filepath.Join(elsewhere, "large"), filepath.Join(dir, "link")),
	))
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
	_, err := disk.Measure(ctx, t.TempDir())
	assert.ErrorIs(t, err, context.Canceled)
}

// A container chooses how deep its trees are: a walk by whole paths takes a time
// that grows with the square of the depth.
func TestATreeOfAnyDepthIsMeasuredWithFewDescriptors(t *testing.T) {
	const depth = 3000
	dir := t.TempDir()
	defer func() {
		assert.Check(t, removal.Path(filepath.Join(dir, "d")))
	}()
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	assert.NilError(t, err)
	for range depth {
		assert.NilError(t, unix.Mkdirat(fd, "d", 0o755))
		below, err := unix.Openat(fd, "d", unix.O_PATH, 0)
		assert.NilError(t, err)
		unix.Close(fd)
		fd = below
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	assert.NilError(t, errors.Join(err, unix.Ftruncate(file, 123)))
	unix.Close(file)
	unix.Close(fd)
	write(t, filepath.Join(dir, "z/beside"), 1000)
	var before unix.Rlimit
	assert.NilError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	assert.NilError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: before.Max}))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	if size, err := disk.Measure(context.Background(), dir); err != nil || size != 1123 {
		t.Fatal(size, err)
	}
}
