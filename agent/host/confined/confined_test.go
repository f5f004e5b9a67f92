package confined

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func openRoot(t *testing.T) (*Root, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	assert.NilError(t, os.Mkdir(dir, 0o755))
	root, err := Open(dir)
	assert.NilError(t, err)
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func TestMakeDirectoriesMakesTheTargetOfADanglingLinkInside(t *testing.T) {
	root, dir := openRoot(t)
	os.Mkdir(filepath.Join(dir, "var"), 0o755)
	os.Symlink("/../../run", filepath.Join(dir, "var", "run"))
	fd, err := root.MakeDirectories("var/run/a/../b", nil)
	assert.NilError(t, err)
	unix.Close(fd)
	if info, err := os.Lstat(filepath.Join(dir, "run", "b")); err != nil || !info.IsDir() {
		t.Errorf("run/b: %v", err)
	}
	entries, _ := os.ReadDir(filepath.Dir(dir))
	assert.Check(t, is.Len(entries, 1), "something was made outside")
}

func TestMakeDirectoriesGivesUpOnCircularLinks(t *testing.T) {
	root, dir := openRoot(t)
	os.Symlink("b", filepath.Join(dir, "a"))
	os.Symlink("a", filepath.Join(dir, "b"))
	_, err := root.MakeDirectories("a/x", nil)
	assert.Check(t, is.ErrorIs(err, unix.ELOOP))
}

func TestMakeDirectoriesRefusesAFileInTheWay(t *testing.T) {
	root, dir := openRoot(t)
	os.WriteFile(filepath.Join(dir, "a"), nil, 0o644)
	_, err := root.MakeDirectories("a/x", nil)
	assert.Check(t, is.ErrorIs(err, unix.ENOTDIR))
}

func TestCleanRefusesNamesThatLeaveTheRoot(t *testing.T) {
	for name, want := range map[string]string{
		"a/b/": "a/b", "./a": "a", "/etc/x": "etc/x", "a/../b": "b", "./": ".", "/": ".", "..a": "..a",
		"..": "", "../x": "", "a/../../x": "", "/../x": "",
	} {
		got, err := Clean(name)
		if got != want || (want == "") != errors.Is(err, ErrLeavesRoot) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}
