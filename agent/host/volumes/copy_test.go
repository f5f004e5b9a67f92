package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// A container that has the volume swaps an entry for a symlink between two steps of the copy.
func TestACopyDoesNotFollowWhatAContainerPutInItsWay(t *testing.T) {
	outside, volume := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.Symlink(secret, filepath.Join(volume, "file")),
		os.Symlink(outside, filepath.Join(volume, "directory")),
	} {
		assert.NilError(t, err)
	}
	root, err := unix.Open(volume, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	defer unix.Close(root)
	if err := openat.Chmod(root, "file", 0o777); err == nil {
		t.Error("the mode of a symlink was changed")
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode outside is %v, %v", info.Mode(), err)
	}
	if err := linkBeneath(root, "directory/secret", root, "linked"); err == nil {
		t.Error("a file outside was linked into the volume")
	}
}

func openTree(t *testing.T, directory string) int {
	t.Helper()
	fd, err := unix.Open(directory, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// measured measures the heap when it has been asked a number of times.
type measured struct {
	context.Context
	left int
	heap uint64
}

func (m *measured) Err() error {
	if m.left--; m.left == 0 {
		m.heap = heap()
	}
	return m.Context.Err()
}

func heap() uint64 {
	runtime.GC()
	var all runtime.MemStats
	runtime.ReadMemStats(&all)
	return all.HeapAlloc
}

func TestACopyHoldsFewOfADirectorysNames(t *testing.T) {
	image, volume := t.TempDir(), t.TempDir()
	const names, length = 5000, 200
	for i := range names {
		assert.NilError(t, os.WriteFile(filepath.Join(image, fmt.Sprintf("%0*d", length, i)), nil, 0o600))
	}
	source, target := openTree(t, image), openTree(t, volume)
	ctx := &measured{Context: t.Context(), left: names / 2}
	before := heap()
	c := copier{ctx: ctx, links: map[inode]string{}, root: target}
	assert.NilError(t, c.directory(source, target, "", 0))
	if ctx.heap > before+names*length/2 {
		t.Errorf("%d bytes for %d names", ctx.heap-before, names)
	}
	copied, err := os.ReadDir(volume)
	if err != nil || len(copied) != names {
		t.Errorf("%d files are copied, %v", len(copied), err)
	}
}

func TestACopyRemembersNamesOfLinkedFilesUpToABound(t *testing.T) {
	defer func(most int) { mostLinkText = most }(mostLinkText)
	mostLinkText = 1000
	image, volume := t.TempDir(), t.TempDir()
	namesOf := func(directory string, file int) [2]string {
		name := filepath.Join(directory, fmt.Sprintf("%0100d", file))
		return [2]string{name, name + "x"}
	}
	const files = 20
	for i := range files {
		names := namesOf(image, i)
		assert.NilError(t, os.WriteFile(names[0], fmt.Append(nil, i), 0o600))
		assert.NilError(t, os.Link(names[0], names[1]))
	}
	source, target := openTree(t, image), openTree(t, volume)
	c := copier{ctx: t.Context(), links: map[inode]string{}, root: target}
	assert.NilError(t, c.directory(source, target, "", 0))
	text := 0
	for _, name := range c.links {
		text += len(name)
	}
	assert.Check(t, len(c.links) > 0 && text <= mostLinkText, "%d bytes of %d names", text, len(c.links))
	for i := range files {
		for _, name := range namesOf(volume, i) {
			content, err := os.ReadFile(name)
			assert.Check(t, err)
			assert.Check(t, string(content) == fmt.Sprint(i), name)
		}
	}
}
