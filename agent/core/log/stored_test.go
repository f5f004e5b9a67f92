package log

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

func TestAStoredLogThatIsRotatedByALaterRunGoesOnWithWhatIsLeft(t *testing.T) {
	dir, text := ended(t, 5)
	r, err := Stored(dir, both)
	assert.NilError(t, err)
	assert.NilError(t, os.Remove(filepath.Join(dir, "0000000000000001.log")))
	assert.NilError(t, os.Remove(filepath.Join(dir, "0000000000000002.log")))
	stdout, _ := everything(t, r, nil)
	assert.Equal(t, stdout, strings.Join(strings.SplitAfter(text, "\n")[2:], ""))
}

func TestAStoredLogThatIsRemovedIsNotTakenForItsEnd(t *testing.T) {
	dir, _ := ended(t, 5)
	r, err := Stored(dir, both)
	assert.NilError(t, err)
	defer r.Close()
	assert.NilError(t, os.RemoveAll(dir))
	for err == nil {
		_, err = r.Next(context.Background())
	}
	assert.ErrorIs(t, err, os.ErrNotExist)
}
