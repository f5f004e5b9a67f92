package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// keptNamespaces counts the namespaces that the shim holds open.
func (c *container) keptNamespaces() (count int) {
	c.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.shim.Process.Pid))
	must(c.t, err)
	for _, link := range links {
		target, _ := os.Readlink(link) // one that is closed meanwhile
		for _, kind := range []string{"mnt:[", "net:[", "uts:["} {
			if strings.HasPrefix(target, kind) {
				count++
			}
		}
	}
	return count
}

func TestWhatAStepHasLeftGoesAtItsLimit(t *testing.T) {
	t.Setenv(keptVariable, "1ms")
	s := beginStage(t, sh("exit 3"))
	s.watch() // else the shim leaves soon
	if count := s.keptNamespaces(); count != 3 {
		t.Fatalf("%d namespaces are kept", count)
	}
	s.step().expectExit(3)
	eventually(t, "nothing is kept", func() bool { return s.keptNamespaces() == 0 })
	if state := s.recorded(); state.Exit.GetCode() != 3 {
		t.Errorf("recorded %v", state)
	}
	s.prepare(sh("echo ran"))
	if waiting := s.attach(&agentv1.OpenAttach{AttachId: "a2"}).finish(); waiting.failure.GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_NOT_RUNNING {
		t.Errorf("an attachment to the next step: %v", waiting.failure)
	}
	_, err := s.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{Generation: 2}))
	assert.Check(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, "the start of the next step: %v", err)
	_, err = s.client.Hello(contextFor(t), connect.NewRequest(&agentv1.HelloRequest{}))
	assert.Check(t, err, "the shim does not wait for its release")
}

func TestAShimThatNobodyWatchesLeavesOnceWhatItKeptIsGone(t *testing.T) {
	t.Setenv(keptVariable, "1ms")
	s := beginStage(t, sh("exit 3"))
	s.step().expectExit(3)
	<-s.dead
	if state := s.recorded(); state.Exit.GetCode() != 3 {
		t.Errorf("recorded %v", state)
	}
}
