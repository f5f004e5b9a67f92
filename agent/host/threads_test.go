package host

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"gotest.tools/v3/assert"
)

// Each mount from a server that is away holds a thread, and one beyond the limit would
// end the process.
func TestTheProcessMayHaveMostThreadsOfTheMachine(t *testing.T) {
	before := debug.SetMaxThreads(defaultThreads)
	defer debug.SetMaxThreads(before)
	assert.NilError(t, allowThreads())
	content, err := os.ReadFile("/proc/sys/kernel/threads-max")
	assert.NilError(t, err)
	var machine int
	_, err = fmt.Sscan(string(content), &machine)
	assert.NilError(t, err)
	allowed := debug.SetMaxThreads(before)
	if allowed < min(defaultThreads, machine) || allowed < machine/2 || allowed > max(defaultThreads, machine) {
		t.Errorf("%d of %d threads", allowed, machine)
	}
}
