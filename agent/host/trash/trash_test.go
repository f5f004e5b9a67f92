package trash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestDiscardedTreesDisappear(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "trash", "left by another process", "x")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	can, err := Open(filepath.Join(dir, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tree := filepath.Join(dir, "tree")
		if err := os.MkdirAll(filepath.Join(tree, "a", "b"), 0o700); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := can.Discard(tree); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Lstat(tree); err == nil {
			t.Error("it is still there")
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		entries, err := os.ReadDir(filepath.Join(dir, "trash"))
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries are left", len(entries))
		}
		time.Sleep(time.Millisecond)
	}
	can.Close()
}

// Deleting must not take away what a discard is about to use.
func TestWhatIsDiscardedIsGoneWhileOthersAreDeleted(t *testing.T) {
	dir := t.TempDir()
	can, err := Open(filepath.Join(dir, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	defer can.Close()
	var lanes sync.WaitGroup
	for lane := range 4 {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for n := range 1000 {
				path := filepath.Join(dir, fmt.Sprint(lane, "-", n))
				if err := errors.Join(os.Mkdir(path, 0o700), can.Discard(path)); err != nil {
					t.Error(err)
				}
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
		if err := os.MkdirAll(filepath.Join(large, fmt.Sprint(n), "d"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	small := filepath.Join(dir, "trash", "1")
	if err := os.MkdirAll(small, 0o700); err != nil {
		t.Fatal(err)
	}
	can, err := Open(filepath.Join(dir, "trash"))
	if err != nil {
		t.Fatal(err)
	}
	defer can.Close()
	for isThere(small) {
		time.Sleep(time.Millisecond)
	}
	if !isThere(large) {
		t.Error("the large one was deleted before it")
	}
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
