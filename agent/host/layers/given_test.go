package layers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// unpackedLayer is a store with one layer, and the layer's diff ID.
func unpackedLayer(t *testing.T, entries ...entry) (store *Store, diffID string) {
	t.Helper()
	store, _ = openStore(t)
	plain := tarOf(t, entries...)
	if _, _, err := unpack(t, store, plain, plain); err != nil {
		t.Fatal(err)
	}
	return store, digestOf(plain)
}

func containerStack(t *testing.T, store *Store, diffIDs ...string) Stack {
	t.Helper()
	stack, err := store.ContainerStack(diffIDs)
	if err != nil {
		t.Fatal(err)
	}
	return stack
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
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	image, err := store.Stack([]string{diffID})
	if err != nil {
		t.Fatal(err)
	}
	for _, stack := range stacks {
		if len(stack.Lower) != 2 || stack.Lower[0] != stacks[0].Lower[0] || stack.Lower[1] != image.Lower[0] {
			t.Fatalf("a container stands on %q", stack.Lower)
		}
	}
	var etc unix.Stat_t
	if err := unix.Lstat(filepath.Join(stacks[0].Lower[0], "etc"), &etc); err != nil || etc.Mode&0o7777 != 0o711 || etc.Uid != 7 {
		t.Errorf("its /etc has mode %o and owner %d: %v", etc.Mode, etc.Uid, err)
	}
	entries, err := os.ReadDir(filepath.Dir(stacks[0].Lower[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), givenUnfinished) {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

// The same layer shows other directories over another.
func TestImagesThatEndWithOneLayerAreGivenTheirOwn(t *testing.T) {
	store, top := unpackedLayer(t, entry{Name: "top", Linkname: "content"})
	of := map[string]bool{}
	for _, mode := range []int64{0o700, 0o755} {
		plain := tarOf(t, entry{Name: "etc/", Typeflag: '5', Mode: mode})
		if _, _, err := unpack(t, store, plain, plain); err != nil {
			t.Fatal(err)
		}
		given := containerStack(t, store, digestOf(plain), top).Lower[0]
		of[given] = true
		if info, err := os.Stat(filepath.Join(given, "etc")); err != nil || info.Mode().Perm() != os.FileMode(mode) {
			t.Errorf("over mode %o: %v, %v", mode, info, err)
		}
	}
	if len(of) != 2 {
		t.Errorf("both have %v", of)
	}
}

func TestAnImageWithoutLayersHasAContainerStack(t *testing.T) {
	store, _ := openStore(t)
	stack := containerStack(t, store)
	if _, err := os.Stat(filepath.Join(stack.Lower[0], ".dockerenv")); err != nil || len(stack.Lower) != 2 {
		t.Errorf("%q: %v", stack.Lower, err)
	}
}

func TestWhatContainersAreGivenGoesWithTheLayer(t *testing.T) {
	store, diffID := unpackedLayer(t, entry{Name: "file", Linkname: "content"})
	given := containerStack(t, store, diffID).Lower[0]
	if err := store.Remove(context.Background(), diffID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Dir(given)); !os.IsNotExist(err) {
		t.Errorf("its directory is left: %v", err)
	}
}

func TestWhatCannotBeGivenIsAnError(t *testing.T) {
	store, diffID := unpackedLayer(t, entry{Name: "file", Linkname: "content"})
	image, err := store.Stack([]string{diffID})
	if err != nil {
		t.Fatal(err)
	}
	damaged := image.Lower[0]
	if err := os.Rename(damaged, damaged+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	if stack, err := store.ContainerStack([]string{diffID}); !errors.Is(err, os.ErrNotExist) || connect.CodeOf(err) == connect.CodeNotFound {
		t.Errorf("over a layer without files: %q, %v", stack.Lower, err)
	}
	if err := store.Remove(context.Background(), diffID); err != nil {
		t.Fatal(err)
	}
	if stack, err := store.withGiven(image, []string{diffID}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("over a layer that has gone meanwhile: %q, %v", stack.Lower, err)
	}
}

func TestWhatIsGivenToContainersNeedsRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=8"); err != nil {
		t.Skip("tmpfs needs root: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	store, err := Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if stack, err := store.ContainerStack(nil); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("without an inode: %q, %v", stack.Lower, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "layers", "*", "*given-*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q: %v", left, err)
	}
}

// A crash of the machine, or of the process, may leave a part.
func TestWhatMayBeAPartIsMadeAnew(t *testing.T) {
	store, diffID := unpackedLayer(t, entry{Name: "file", Linkname: "content"})
	layer := filepath.Dir(containerStack(t, store, diffID).Lower[0])
	empty := filepath.Dir(containerStack(t, store).Lower[0])
	for _, dir := range []string{layer, empty} {
		for _, name := range []string{givenUnfinished + "killed", givenPrefix + "anotherb-" + strings.Repeat("0", nameLength)} {
			if err := os.MkdirAll(filepath.Join(dir, name, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	again, err := Open(store.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	for _, dir := range []string{layer, empty} {
		left, err := filepath.Glob(filepath.Join(dir, "*given-*"))
		if err != nil || len(left) != 1 || !strings.HasPrefix(filepath.Base(left[0]), again.givenOfBoot()) {
			t.Errorf("left are %q: %v", left, err)
		}
	}
	again.boot = "the next boot of the machine"
	if given := containerStack(t, again, diffID).Lower[0]; !strings.HasPrefix(filepath.Base(given), "given-the next-") {
		t.Errorf("after a boot it is %s", given)
	}
}
