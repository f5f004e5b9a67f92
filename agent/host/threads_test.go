package host

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
)

// Each mount from a server that is away holds a thread, and one beyond the limit would
// end the process.
func TestTheProcessMayHaveMostThreadsOfTheMachine(t *testing.T) {
	before := debug.SetMaxThreads(defaultThreads)
	defer debug.SetMaxThreads(before)
	if err := allowThreads(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("/proc/sys/kernel/threads-max")
	if err != nil {
		t.Fatal(err)
	}
	var machine int
	if _, err := fmt.Sscan(string(content), &machine); err != nil {
		t.Fatal(err)
	}
	allowed := debug.SetMaxThreads(before)
	if allowed < min(defaultThreads, machine) || allowed < machine/2 || allowed > max(defaultThreads, machine) {
		t.Errorf("%d of %d threads", allowed, machine)
	}
}
