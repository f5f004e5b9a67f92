package host

import (
	"fmt"
	"math"
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
	machine := math.MaxInt
	for _, limit := range []string{"threads-max", "pid_max"} {
		content, err := os.ReadFile("/proc/sys/kernel/" + limit)
		assert.NilError(t, err)
		var number int
		_, err = fmt.Sscan(string(content), &number)
		assert.NilError(t, err)
		machine = min(machine, number)
	}
	allowed := debug.SetMaxThreads(before)
	if allowed < min(defaultThreads, machine) || allowed < machine/2 || allowed > max(defaultThreads, machine) {
		t.Errorf("%d of %d threads", allowed, machine)
	}
}
