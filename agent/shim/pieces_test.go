package shim_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Each spliced piece occupies a slot of the pipe. Pieces that are read together share
// a slot with others if they fit, so that half of the pipe is used at least.
func TestAProcessThatDoesNotReadTakesSmallPiecesOfAnySize(t *testing.T) {
	for _, size := range []int{60, 120, 256, 512, 1000} {
		c := launch(t, launchOptions{args: sleeper})
		c.mustRun()
		c.recording()
		s := c.exec("pieces", &agentv1.ProcessSpec{Args: sh("%scat", waiting)}, overConnection(false, ""))
		client, fd := pair(t)
		must(t, unix.SetNonblock(fd, true))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for n := 0; n < 120_000; n += size {
				if _, err := client.Write(make([]byte, size)); err != nil {
					t.Errorf("pieces of %d: held up after %d: %v", size, n, err)
					return
				}
			}
		}()
		must(t, client.SetWriteDeadline(time.Now().Add(30*time.Second)))
		// The client stalls once the socket is full; then its connection is
		// handed over.
		for before := -1; ; time.Sleep(20 * time.Millisecond) {
			held, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
			must(t, err)
			if held == before {
				break
			}
			before = held
		}
		s.handOn(fd, nil)
		<-sent
		must(t, client.CloseWrite())
		c.letGo()
		all(t, client)
		s.finish().expectExit(0)
		must(t, os.Remove(filepath.Join(c.spec.Rootfs, "go")))
	}
}
