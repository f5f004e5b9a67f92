package layers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/host/trash"
)

// unpackedLayer is a store with one layer, and the layer's diff ID.
func unpackedLayer(t *testing.T, entries ...entry) (store *Store, diffID string) {
	t.Helper()
	store, _ = openStore(t)
	plain := tarOf(t, entries...)
	_, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	return store, digestOf(plain)
}

func containerStack(t *testing.T, store *Store, diffIDs ...string) Stack {
	t.Helper()
	stack, err := store.ContainerStack(diffIDs)
	assert.NilError(t, err)
	return stack
}

// givenIn are the directories of files for containers, unfinished ones too.
func givenIn(t *testing.T, store *Store) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(store.dir, "*", "*given-*"))
	assert.NilError(t, err)
	return found
}

func TestContainersOfAnImageShareWhatTheyAreGiven(t *testing.T) {
	store, diffID := unpackedLayer(t, entry{Name: "etc/", Typeflag: '5', Mode: 0o711, Uid: 7})
	var wait sync.WaitGroup
	stacks, failures := make([]Stack, 8), make([]error, 8)
	for i := range stacks {
		wait.Add(1)
		go func() {
			defer wait.Done()
			stacks[i], failures[i] = store.ContainerStack([]string{diffID})
		}()
	}
	wait.Wait()
	assert.NilError(t, errors.Join(failures...))
	image, err := store.Stack([]string{diffID})
	assert.NilError(t, err)
	for _, stack := range stacks {
		if len(stack.Lower) != 2 || stack.Lower[0] != stacks[0].Lower[0] || stack.Lower[1] != image.Lower[0] {
			t.Fatalf("a container stands on %q", stack.Lower)
		}
	}
	var etc unix.Stat_t
	if err := unix.Lstat(filepath.Join(stacks[0].Lower[0], "etc"), &etc); err != nil || etc.Mode&0o7777 != 0o711 || etc.Uid != 7 {
		t.Errorf("its /etc has mode %o and owner %d: %v", etc.Mode, etc.Uid, err)
	}
	if left := givenIn(t, store); len(left) != 1 {
		t.Errorf("there are %q", left)
	}
}

// The same layer shows other directories over another.
func TestImagesThatEndWithOneLayerAreGivenTheirOwn(t *testing.T) {
	store, top := unpackedLayer(t, entry{Name: "top", Linkname: "content"})
	of := map[string]bool{}
	for _, mode := range []int64{0o700, 0o755} {
		plain := tarOf(t, entry{Name: "etc/", Typeflag: '5', Mode: mode})
		_, _, err := unpack(t, store, plain, plain)
		assert.NilError(t, err)
		given := containerStack(t, store, digestOf(plain), top).Lower[0]
		of[given] = true
		if info, err := os.Stat(filepath.Join(given, "etc")); err != nil || info.Mode().Perm() != os.FileMode(mode) {
			t.Errorf("over mode %o: %v, %v", mode, info, err)
		}
	}
	assert.Check(t, len(of) == 2, "both have %v", of)
}

func TestAnImageWithoutLayersHasAContainerStack(t *testing.T) {
	store, _ := openStore(t)
	stack := containerStack(t, store)
	if _, err := os.Stat(filepath.Join(stack.Lower[0], ".dockerenv")); err != nil || len(stack.Lower) != 2 {
		t.Errorf("%q: %v", stack.Lower, err)
	}
}

// The topmost layer may exist for another image: many end with an empty one.
func TestWhatContainersAreGivenGoesWithEachLayerOfTheImage(t *testing.T) {
	store, top := unpackedLayer(t, entry{Name: "top", Linkname: "content"})
	plain := tarOf(t, entry{Name: "bottom", Linkname: "content"})
	_, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	bottom := digestOf(plain)
	alone := filepath.Dir(containerStack(t, store, top).Lower[0])
	containerStack(t, store, bottom, top)
	for _, step := range []struct {
		removed string
		left    []string
	}{{bottom, []string{alone}}, {top, nil}} {
		assert.NilError(t, store.Remove(context.Background(), step.removed))
		if left := givenIn(t, store); !slices.Equal(left, step.left) {
			t.Errorf("left are %q, not %q", left, step.left)
		}
	}
}

// Left to the next process by a killed one.
func TestWhatLiesOverAnImageThatIsGoneIsDeletedAtTheStart(t *testing.T) {
	store, top := unpackedLayer(t, entry{Name: "top", Linkname: "content"})
	plain := tarOf(t, entry{Name: "bottom", Linkname: "content"})
	_, _, err := unpack(t, store, plain, plain)
	assert.NilError(t, err)
	alone := filepath.Dir(containerStack(t, store, top).Lower[0])
	bottom := filepath.Dir(containerStack(t, store, digestOf(plain), top).Lower[2])
	assert.NilError(t, os.RemoveAll(bottom))
	assert.NilError(t, os.Mkdir(filepath.Join(store.dir, emptyName, givenUnfinished+"killed"), 0o755))
	again, err := Open(store.dir, store.trash)
	assert.NilError(t, err)
	t.Cleanup(again.Close)
	if left := givenIn(t, again); len(left) != 1 || left[0] != alone {
		t.Errorf("left are %q, not %s", left, alone)
	}
	assert.NilError(t, again.Remove(context.Background(), top))
	if len(givenIn(t, again)) > 0 || len(again.given.over) > 0 {
		t.Errorf("left are %q of %v", givenIn(t, again), again.given.over)
	}
}

func TestWhatCannotBeGivenIsAnError(t *testing.T) {
	store, diffID := unpackedLayer(t, entry{Name: "file", Linkname: "content"})
	image, err := store.Stack([]string{diffID})
	assert.NilError(t, err)
	damaged := image.Lower[0]
	assert.NilError(t, os.Rename(damaged, damaged+"-elsewhere"))
	if stack, err := store.ContainerStack([]string{diffID}); !errors.Is(err, os.ErrNotExist) || connect.CodeOf(err) == connect.CodeNotFound {
		t.Errorf("over a layer without files: %q, %v", stack.Lower, err)
	}
	assert.NilError(t, store.Remove(context.Background(), diffID))
	if stack, err := store.withGiven(image, []string{diffID}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("over a layer that has gone meanwhile: %q, %v", stack.Lower, err)
	}
}

func TestWhatIsGivenToContainersNeedsRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=9"); err != nil {
		t.Skip("tmpfs needs root: ", err)
	}
	t.Cleanup(func() {
		assert.Check(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	can, err := trash.Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	store, err := Open(filepath.Join(dir, "layers"), can)
	assert.NilError(t, err)
	t.Cleanup(store.Close)
	if stack, err := store.ContainerStack(nil); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("without an inode: %q, %v", stack.Lower, err)
	}
	if left := givenIn(t, store); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

// bootAnew simulates a reboot of the machine for a synced store.
func bootAnew(store *Store) {
	store.flusher.Settle(time.Hour)
	store.boot = "the next boot of the machine"
}

// storeWithGiven is a store after a reboot, with the files for containers over
// its layer and over none.
func storeWithGiven(t *testing.T) (store *Store, images [][]string, given []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers need root")
	}
	dir := filepath.Join(t.TempDir(), "layers")
	store, err := Open(dir, newCan(t))
	assert.NilError(t, err)
	plain := tarOf(t, entry{Name: "file", Linkname: "content"})
	_, _, err = unpack(t, store, plain, plain)
	assert.NilError(t, err)
	images = [][]string{{digestOf(plain)}, nil}
	for _, image := range images {
		given = append(given, filepath.Dir(containerStack(t, store, image...).Lower[0]))
	}
	bootAnew(store)
	return store, images, given
}

func TestWhatContainersAreGivenOutlivesABootOnceItIsSynced(t *testing.T) {
	store, images, given := storeWithGiven(t)
	for i, image := range images {
		store.reviewGiven(filepath.Dir(given[i]))
		if found := filepath.Dir(containerStack(t, store, image...).Lower[0]); found != given[i] {
			t.Errorf("%s became %s", given[i], found)
		}
	}
	if left := givenIn(t, store); len(left) != len(given) {
		t.Errorf("there are %q", left)
	}
}

// A crash of the machine may leave a part of what was not synced.
func TestWhatMayBeAPartIsMadeAnew(t *testing.T) {
	store, images, given := storeWithGiven(t)
	for i, image := range images {
		part := filepath.Join(given[i], "diff", ".dockerenv")
		assert.NilError(t, errors.Join(os.Remove(filepath.Join(given[i], durableName)), os.Remove(part)))
		if stack, err := store.ContainerStack(image); err == nil {
			t.Errorf("a part that could not be deleted is believed: %q", stack.Lower)
		}
		store.reviewGiven(filepath.Dir(given[i]))
		containerStack(t, store, image...)
		_, err := os.Lstat(part)
		assert.Check(t, err)
	}
}
