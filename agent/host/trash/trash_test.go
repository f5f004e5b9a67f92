package trash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestDiscardedTreesDisappear(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "trash", "left by another process", "x")
	assert.NilError(t, os.MkdirAll(left, 0o700))
	can, err := Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	for range 3 {
		tree := filepath.Join(dir, "tree")
		assert.NilError(t, os.MkdirAll(filepath.Join(tree, "a", "b"), 0o700))
		for range 2 {
			assert.NilError(t, can.Discard(tree))
		}
		if _, err := os.Lstat(tree); err == nil {
			t.Error("it is still there")
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		entries, err := os.ReadDir(filepath.Join(dir, "trash"))
		assert.NilError(t, err)
		if len(entries) == 0 {
			break
		}
		assert.Assert(t, !time.Now().After(deadline), "%d entries are left", len(entries))
		time.Sleep(time.Millisecond)
	}
	can.Close()
}

// Deleting must not take away what a discard is about to use.
func TestWhatIsDiscardedIsGoneWhileOthersAreDeleted(t *testing.T) {
	dir := t.TempDir()
	can, err := Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	defer can.Close()
	var lanes sync.WaitGroup
	for lane := range 4 {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for n := range 1000 {
				path := filepath.Join(dir, fmt.Sprint(lane, "-", n))
				assert.Check(t, errors.Join(os.Mkdir(path, 0o700), can.Discard(path)))
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is there: %v", path, err)
					return
				}
			}
		}()
	}
	lanes.Wait()
}

func TestALargeTreeHoldsUpNoOthers(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "trash", "0")
	for n := range 5_000 {
		assert.NilError(t, os.MkdirAll(filepath.Join(large, fmt.Sprint(n), "d"), 0o700))
	}
	small := filepath.Join(dir, "trash", "1")
	assert.NilError(t, os.MkdirAll(small, 0o700))
	can, err := Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	defer can.Close()
	for isThere(small) {
		time.Sleep(time.Millisecond)
	}
	assert.Check(t, isThere(large), "the large one was deleted before it")
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
