// Package hungfs mounts file systems that do not answer, for tests of what these hold
// up.
package hungfs

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Mount mounts a file system of FUSE at a directory until the end of the test, and
// returns the end that serves it. It answers nothing but what is written there: whoever
// asks it cannot be killed until that is closed.
func Mount(t testing.TB, directory string) (server *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("needs FUSE: ", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	err = unix.Mount("hung", directory, "fuse", 0, options)
	server = os.NewFile(uintptr(fd), "fuse") // only now it can be polled
	assert.NilError(t, err)
	t.Cleanup(func() {
		unix.Unmount(directory, unix.MNT_DETACH)
		server.Close() // everything that waits for it fails
	})
	return server
}
