package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// A signal after the start goes to the command, not to the runtime, whose
// handlers would produce their own exit code.
func TestAStartIsAnsweredOnceTheCommandIsExecuted(t *testing.T) {
	command, err := os.Stat(filepath.Join(busyboxRoot(t), "bin/busybox"))
	must(t, err)
	for range 10 {
		c := launch(t, launchOptions{args: []string{"sleep", "60"}})
		c.mustRun()
		running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", c.ready.PID))
		must(t, err)
		assert.Assert(t, os.SameFile(running, command), "the start is answered while the runtime's process runs")
	}
}
