package children

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// Statuses of orphans are kept for as long as an adoption is expected, that of an exec
// whose start hangs for instance: numbers come again meanwhile.
func TestAProcessThatLivesIsAdoptedWhoeverHadItsNumber(t *testing.T) {
	r := Start()
	defer r.Stop()
	defer r.ExpectAdoption()()
	process, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	assert.NilError(t, err)
	r.mu.Lock()
	r.orphans[process.Pid] = exit{}
	r.mu.Unlock()
	child, err := r.Adopt(process.Pid)
	assert.NilError(t, err)
	assert.Check(t, child.Signal(unix.SIGKILL), "it is told to have ended")
	status, _ := child.Status()
	assert.Check(t, is.Equal(status.Signal(), unix.SIGKILL))
}
