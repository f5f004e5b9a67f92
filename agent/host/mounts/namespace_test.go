package mounts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestANamespaceHoldsItsTreeAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(dir, "mounted"), 0o755))
	clone := func() *os.File {
		source, err := os.Open(dir)
		assert.NilError(t, err)
		defer source.Close()
		tree, err := Clone(source, false)
		assert.NilError(t, err)
		return tree
	}
	namespace, err := NewNamespace(clone())
	assert.NilError(t, err)
	defer namespace.Close()
	root, err := namespace.Open()
	assert.NilError(t, err)
	defer root.Close()
	wantCount := func(want int) {
		t.Helper()
		if count, err := namespace.Count(); count != want || err != nil {
			t.Errorf("%d mounts, want %d: %v", count, want, err)
		}
	}
	wantCount(1)
	target, err := unix.Openat(int(root.Fd()), "mounted", unix.O_PATH|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	defer unix.Close(target)
	beneath := clone()
	defer beneath.Close()
	assert.NilError(t, namespace.Do(func() error { return AttachTo(int(beneath.Fd()), target) }))
	wantCount(2)
	if machine, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(machine), dir) {
		t.Errorf("it is among the machine's mounts (%v):\n%s", err, machine)
	}
	if _, err := os.Stat(filepath.Join(dir, "mounted", "mounted")); err == nil {
		t.Error("the machine sees the mount")
	}
	sees := func() bool {
		var stat unix.Stat_t
		return unix.Fstatat(int(root.Fd()), "mounted/mounted", &stat, 0) == nil
	}
	assert.Check(t, sees(), "the root does not show the mount")
	for range 2 {
		assert.Check(t, namespace.Close())
	}
	assert.Check(t, !sees(), "still mounted")
	if err := namespace.Do(func() error { return nil }); err == nil {
		t.Error("it is entered after its end")
	}
}
