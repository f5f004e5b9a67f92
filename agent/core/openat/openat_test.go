package openat_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/openat"
)

func TestRenamesElsewhereDisturbNoResolution(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(root, "below"), 0o755))
	directory, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	defer unix.Close(directory)
	over := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		from, to := filepath.Join(elsewhere, "a"), filepath.Join(elsewhere, "b")
		os.Mkdir(from, 0o755)
		for {
			select {
			case <-over:
				return
			default:
				os.Rename(from, to)
				from, to = to, from
			}
		}
	}()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	for range 50_000 {
		fd, err := openat.Open(directory, "below/../below/../below/..", &how)
		if err != nil {
			t.Error(err)
			break
		}
		unix.Close(fd)
	}
	close(over)
	<-done
}
