package containerinit

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
)

// Not parallel: a reaper takes the exits of all children of this process.
func TestAProcessThatHasNoSessionYetGetsTheSignalsOfAll(t *testing.T) {
	reaper := children.Start()
	defer reaper.Stop()
	l := newLauncher(&powers{}, reaper, nil)
	child, err := reaper.Spawn("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	l.watch(child)
	if err := l.SignalAll(t.Context(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	select {
	case <-child.Done():
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
		_ = child.Signal(unix.SIGKILL)
	}
}
