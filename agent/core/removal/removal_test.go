package removal

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// newRoot makes a directory in one of its own, and opens it.
func newRoot(t *testing.T) (fd int, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "root")
	assert.NilError(t, os.Mkdir(dir, 0o755))
	fd, err := openDirectory(unix.AT_FDCWD, dir)
	assert.NilError(t, err)
	return fd, dir
}

// enter opens a directory in one that it closes.
func enter(t *testing.T, current int, name string) int {
	t.Helper()
	next, err := openDirectory(current, name)
	assert.NilError(t, err)
	unix.Close(current)
	return next
}

// removeWhole removes a tree and checks that it is gone.
func removeWhole(t *testing.T, dir string) {
	t.Helper()
	assert.NilError(t, Path(dir))
	_, err := os.Lstat(dir)
	assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "still there")
}

func TestTreeRemovesNestingDeeperThanAPathCanName(t *testing.T) {
	current, dir := newRoot(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	os.WriteFile(outside, nil, 0o644)
	for range 3000 {
		unix.Symlinkat(outside, current, "link")
		unix.Mkdirat(current, "b", 0o755)
		unix.Mkdirat(current, "directory", 0o755)
		current = enter(t, current, "directory")
	}
	unix.Close(current)
	removeWhole(t, dir)
	_, err := os.Stat(outside)
	assert.Check(t, err, "a link was followed")
	assert.Check(t, Path(dir), "again")
}

// A container has a volume's directory mounted, and moves what is being emptied to
// the top of it: from there ".." leads out.
func TestTreeLeavesNoTreeWhoseDirectoriesAreMoved(t *testing.T) {
	volumes := t.TempDir()
	data := filepath.Join(volumes, "volume", "data")
	emptied := filepath.Join(data, "file", "volume", "data", "emptied")
	precious := filepath.Join(volumes, "other", "precious")
	for _, name := range []string{filepath.Join(emptied, "full", "directory"), precious} {
		assert.NilError(t, os.MkdirAll(name, 0o755))
	}
	parent, err := openDirectory(unix.AT_FDCWD, data)
	assert.NilError(t, err)
	r := &removal{current: parent, buffer: make([]byte, 32<<10)}
	defer func() { unix.Close(r.current) }()
	assert.NilError(t, r.push())
	r.levels[0].full = []string{"file"}
	for len(r.levels) < len([]string{"data", "file", "volume", "data", "emptied"}) {
		if top := &r.levels[len(r.levels)-1]; len(top.full) > 0 {
			assert.NilError(t, r.descend(top))
		} else {
			_, err := r.removeBlock(top)
			assert.NilError(t, err)
		}
	}
	assert.NilError(t, os.Rename(emptied, filepath.Join(data, "emptied")))
	assert.Check(t, is.ErrorIs(r.run(), errMoved))
	_, err = os.Stat(precious)
	assert.NilError(t, err, "another's")
}

func TestTreeTakesATimeThatGrowsWithTheDirectoriesAlone(t *testing.T) {
	own, usual := removalTime(t, Path), removalTime(t, os.RemoveAll)
	assert.Check(t, own <= 3*usual, "%v, but os.RemoveAll takes %v", own, usual)
}

// removalTime returns the processor's time that 12,000 directories with one directory
// each take.
func removalTime(t *testing.T, remove func(string) error) time.Duration {
	dir := filepath.Join(t.TempDir(), "root")
	longName := strings.Repeat("n", 240)
	for n := range 12_000 {
		assert.NilError(t, os.MkdirAll(filepath.Join(dir, longName+strconv.Itoa(n), "d"), 0o755))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime(t)
	assert.NilError(t, remove(dir))
	return threadTime(t) - before
}

func threadTime(t *testing.T) time.Duration {
	var used unix.Rusage
	assert.NilError(t, unix.Getrusage(unix.RUSAGE_THREAD, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Levels whose directories are forgotten on the way down are read again on the way up.
func TestTreeRemovesFullDirectoriesOfEachLevelOfADeepTree(t *testing.T) {
	current, dir := newRoot(t)
	for range 300 {
		for _, name := range []string{"a", "b", "deeper", "y", "z"} {
			unix.Mkdirat(current, name, 0o755)
			unix.Mkdirat(current, name+"/inside", 0o755)
		}
		current = enter(t, current, "deeper")
	}
	unix.Close(current)
	removeWhole(t, dir)
}
