package log

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// ended is the log of a stopped container in that many files of a line each.
func ended(t *testing.T, files int) (dir, text string) {
	t.Helper()
	dir = t.TempDir()
	w, _, err := Open(dir, Settings{MaxSize: 1, MaxFiles: uint32(files)})
	assert.NilError(t, err)
	for i := range files {
		line := fmt.Sprintf("line %d\n", i)
		write(t, w, entry{Stdout, int64(i), line})
		text += line
	}
	assert.NilError(t, w.Close())
	return dir, text
}

// openIn counts this process' descriptors of files in dir.
func openIn(t *testing.T, dir string) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	assert.NilError(t, err)
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, dir) {
			count++
		}
	}
	return count
}

func TestAStoredLogThatIsNotReadHasOneDescriptorHoweverManyFilesItHas(t *testing.T) {
	dir, text := ended(t, 50)
	tail := uint64(30)
	for _, options := range []ReadOptions{both, {Stdout: true, Tail: &tail}} {
		r, err := Stored(dir, options)
		assert.NilError(t, err)
		defer r.Close()
		_, err = r.Next(context.Background())
		assert.NilError(t, err)
		assert.Check(t, openIn(t, dir) <= 1)
		r.Close()
		assert.Equal(t, openIn(t, dir), 0)
	}
	r, err := Stored(dir, both)
	stdout, _ := everything(t, r, err)
	assert.Equal(t, stdout, text)
}

func TestAStoredLogWhoseNextFileIsRemovedFails(t *testing.T) {
	rotated := func(t *testing.T, dir string) {
		w, _, err := Open(dir, Settings{MaxSize: 1, MaxFiles: 5})
		assert.NilError(t, err)
		for i := range 3 {
			write(t, w, entry{Stdout, int64(10 + i), "of a later run\n"})
		}
		assert.NilError(t, w.Close())
	}
	removed := func(t *testing.T, dir string) { assert.NilError(t, os.RemoveAll(dir)) }
	tail := uint64(4)
	for name, remove := range map[string]func(*testing.T, string){"rotated": rotated, "removed": removed} {
		for from, options := range []ReadOptions{both, {Stdout: true, Tail: &tail}} {
			t.Run(fmt.Sprint(name, from), func(t *testing.T) {
				dir, _ := ended(t, 5)
				r, err := Stored(dir, options)
				assert.NilError(t, err)
				defer r.Close()
				chunk, err := r.Next(context.Background())
				assert.NilError(t, err)
				assert.Equal(t, string(chunk.Data), fmt.Sprintf("line %d\n", from))
				remove(t, dir)
				_, err = r.Next(context.Background())
				assert.ErrorIs(t, err, errRemoved)
			})
		}
	}
}

func TestTheTailOfAStoredLogTellsOfAFileThatIsRemovedMeanwhile(t *testing.T) {
	dir, _ := ended(t, 5)
	assert.NilError(t, os.Remove(filepath.Join(dir, "0000000000000003.log")))
	segments, err := listSegments(dir)
	assert.NilError(t, err)
	missing := &segment{number: 3, path: segmentPath(dir, 3), next: segments[2]}
	missing.size.Store(segments[2].size.Load())
	segments = slices.Insert(segments, 2, missing)
	for _, s := range segments {
		s.stored = &oneOpen{}
		defer s.close()
	}
	last := segments[4]
	found := findTail(segments, Position{last.number, last.size.Load()}, 4)
	assert.Check(t, found.damage != nil)
	assert.ErrorIs(t, found.damage, errRemoved)
}
