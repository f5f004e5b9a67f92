package shim

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestNobodyIsWaitedForForEver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	assert.NilError(t, unix.Mkfifo(name, 0o600))
	fifo, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	defer unix.Close(fifo)
	if err := awaitReadable(time.Millisecond, fifo); err == nil {
		t.Error("a FIFO without a writer can be read")
	}
	assert.NilError(t, os.WriteFile(name, []byte{0}, 0))
	assert.Check(t, awaitReadable(time.Hour, fifo))
}
