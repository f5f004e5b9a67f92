package containerinit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/exechold"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// startHeld starts a task that runs, and suspends its execs.
func startHeld(t *testing.T) (client agentv1connect.AgentServiceClient, hold *exechold.Hold) {
	t.Helper()
	k := startTask(t, taskOptions{})
	startForever(t, k, nobody())
	hold, err := exechold.Executions(filepath.Join(filepath.Dir(k.output), "rootfs/probe"))
	must(t, err)
	t.Cleanup(hold.End)
	return k.client(), hold
}

func TestAStageHasTheProgramsStreamsAndItsStatusAndIsClosedToOthers(t *testing.T) {
	t.Parallel()
	client, hold := startHeld(t)
	for _, user := range []string{"root", "alice"} {
		c := execute(t, client, user, &agentv1.ProcessSpec{Args: []string{"/probe", "who"}, User: user})
		must(t, hold.Next(2*time.Minute, func(pid int) {
			directory := fmt.Sprintf("/proc/%d/fd", pid)
			entries, err := os.ReadDir(directory)
			must(t, err)
			for _, entry := range entries {
				target, _ := os.Readlink(filepath.Join(directory, entry.Name()))
				if name := entry.Name(); name > "2" && name != "4" && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
					t.Errorf("as %s: descriptor %s is %s", user, name, target)
				}
			}
			assert.Check(t, !exechold.Accessible(pid), "as %s: root without the right to trace gets at what it has open", user)
		}))
		if code := c.exit(); code != 0 {
			t.Errorf("as %s: exit code %d", user, code)
		}
	}
}

func TestAStartThatHangsHoldsUpNoPause(t *testing.T) {
	t.Parallel()
	client, hold := startHeld(t)
	hung := execute(t, client, "hung", &agentv1.ProcessSpec{Args: []string{"/probe", "who"}, User: "alice"})
	must(t, hold.Next(2*time.Minute, func(int) {
		_, err := client.Pause(patience(t), connect.NewRequest(&agentv1.PauseRequest{}))
		must(t, err)
		_, err = client.Resume(patience(t), connect.NewRequest(&agentv1.ResumeRequest{}))
		must(t, err)
	}))
	assert.Check(t, is.Equal(hung.exit(), 0))
}
