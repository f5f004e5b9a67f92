package setpriv

import (
	"os"
	"os/exec"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const busyVariable = "SOCKERLESS_TEST_BUSY=1"

// TestGoInterruptsNoThread runs itself again, as busy as no such process is.
func TestGoInterruptsNoThread(t *testing.T) {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == busyVariable {
		interruptions := make(chan os.Signal, 1)
		signal.Notify(interruptions, unix.SIGURG)
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
			assert.Assert(t, is.Len(interruptions, 0), "interrupted")
		}
		return
	}
	for _, environment := range [][]string{Environment, {}} {
		busy := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", busyVariable)
		busy.Env = environment
		output, err := busy.CombinedOutput()
		if isCalm := len(environment) > 0; (err == nil) != isCalm {
			t.Errorf("with %q: %v\n%s", environment, err, output)
		}
	}
}
