package shim

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNobodyIsWaitedForForEver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fifo)
	if err := awaitReadable(time.Millisecond, fifo); err == nil {
		t.Error("a FIFO without a writer can be read")
	}
	if err := os.WriteFile(name, []byte{0}, 0); err != nil {
		t.Fatal(err)
	}
	if err := awaitReadable(time.Hour, fifo); err != nil {
		t.Error(err)
	}
}
