package volumes

import (
	"os"
	"path/filepath"
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
