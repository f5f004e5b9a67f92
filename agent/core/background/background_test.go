package background

import (
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestOnlyItsThreadHasLowPriority(t *testing.T) {
	priorities := make(chan int)
	Go(func() {
		// The system call gives 20 minus the niceness.
		priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		assert.Check(t, err)
		priorities <- priority
	})
	if got := <-priorities; got != 20-niceness {
		t.Errorf("its priority is %d", got)
	}
	if own, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || own == 20-niceness {
		t.Errorf("this thread's is %d, %v", own, err)
	}
}
