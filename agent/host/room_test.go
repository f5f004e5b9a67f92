package host_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// withoutRoom are ways in which a state directory, a tmpfs, has no more room.
var withoutRoom = map[string]struct {
	reach func(stateDir string) error
	told  string
}{
	"no inode": {func(stateDir string) error {
		for i := 0; ; i++ {
			if err := os.Mkdir(filepath.Join(stateDir, fmt.Sprint("filling-", i)), 0o700); err != nil {
				if errors.Is(err, unix.ENOSPC) {
					return nil
				}
				return err
			}
		}
	}, "no space left on device"},
	"read-only": {func(stateDir string) error {
		return unix.Mount("", stateDir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}, "read-only file system"},
}

// A crash of the machine may have lost the files for the container.
func TestAStoppedContainerIsReadWhereTheDiskTakesNothing(t *testing.T) {
	for name, state := range withoutRoom {
		t.Run(name, func(t *testing.T) {
			h := startHost(t)
			h.stop(t)
			assert.NilError(t, unix.Mount("tmpfs", h.stateDir, "tmpfs", 0, "size=256m,nr_inodes=4000,mode=0711"))
			h.start(t)
			t.Cleanup(func() {
				h.stop(t)
				assert.Check(t, unix.Unmount(h.stateDir, unix.MNT_DETACH))
			})
			layer := h.unpackImage(t)
			id := h.create(t, layer)
			given, err := filepath.Glob(filepath.Join(h.stateDir, "layers", "*", "given-*"))
			if err != nil || len(given) != 1 {
				t.Fatalf("a container is given %q: %v", given, err)
			}
			h.stop(t)
			assert.NilError(t, errors.Join(os.RemoveAll(given[0]), state.reach(h.stateDir)))
			h.start(t)
			if told, err := changesOf(t, h.stored, id); err != nil || len(told) > 0 {
				t.Errorf("changes are %q: %v", told, err)
			}
			if names := exportOf(t, h.stored, id, false); !slices.Contains(names, "bin/busybox") {
				t.Errorf("exported are %q", names)
			}
			_, err = h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
				ContainerId: randomID(), LayerDiffIds: []string{layer},
			}))
			assert.Check(t, is.ErrorContains(err, state.told), "another is created")
		})
	}
}
