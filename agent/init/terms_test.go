package containerinit_test

import (
	"math"
	"os"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// forLong are flags of an agent that stays until the test is over.
var forLong = []string{"--linger", "1h", "--drain-timeout", "1h"}

func release(t *testing.T, client agentv1connect.AgentServiceClient, generation uint64) error {
	t.Helper()
	_, err := client.Release(patience(t), connect.NewRequest(&agentv1.ReleaseRequest{Generation: generation}))
	return err
}

func TestAReleasedAgentLeavesAtOnceWithTheProcesssCode(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Generation: 3, Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	if err := release(t, client, 3); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("while it runs: %v", err)
	}
	c.closeStdin()
	c.exit()
	start(t, client, &agentv1.StartRequest{Generation: 4, Process: nobody("probe", "say", "x", "7")})
	generations := map[uint64]int32{}
	for len(generations) < 2 && watch.Receive() {
		if exit := watch.Msg().GetExited(); exit != nil {
			generations[watch.Msg().Generation] = exit.Code
		}
	}
	if len(generations) != 2 || generations[3] != 0 || generations[4] != 7 {
		t.Errorf("the watch told %v, %v", generations, watch.Err())
	}
	if err := release(t, client, 3); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("of an earlier start: %v", err)
	}
	must(t, release(t, client, 4))
	if code := k.exitCode(); code != 7 {
		t.Errorf("the agent exited with %d", code)
	}
	for watch.Receive() {
		if watch.Msg().GetReleased() != nil {
			return
		}
	}
	t.Errorf("the watch was not released: %v", watch.Err())
}

func TestAnAgentThatWasNeverStartedIsReleased(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	waiting := attach(t, k.client(), "a")
	must(t, release(t, k.client(), 1)) // a start that did not arrive
	if last := waiting.end(); last.GetError().GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED {
		t.Errorf("the attachment ended with %v", last)
	}
	if code := k.exitCode(); code != 0 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAStartThatWaitsForAnAttachmentIsReleasedWithoutRunning(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	failed := make(chan *agentv1.StartFailure, 1)
	go func() {
		response, err := client.Start(patience(t), connect.NewRequest(&agentv1.StartRequest{Generation: 2, Process: nobody("probe", "forever"),
			AwaitAttachIds: []string{"nobody comes"}, AwaitAttachTimeoutMs: 3_600_000}))
		if err != nil {
			t.Error(err)
			failed <- nil
			return
		}
		failed <- response.Msg.GetFailure()
	}()
	k.await("the start", func() bool {
		watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
		must(t, err)
		defer watch.Close()
		return watch.Receive() && watch.Msg().Generation == 2
	})
	if err := release(t, client, 1); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("of an earlier start: %v", err)
	}
	must(t, release(t, client, 2))
	if failure := <-failed; failure.GetExitCode() != 128 || failure.GetMessage() != "the start was withdrawn" {
		t.Errorf("the start was answered with %v", failure)
	}
	if code := k.exitCode(); code != 128 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAnAgentWithoutAStartLeaves(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: append([]string{"--start-timeout", "2s"}, forLong...)})
	if code := k.exitCode(); code != 125 || !strings.Contains(k.said(), "not told what to run within 2s") {
		t.Errorf("the agent exited with %d and said:\n%s", code, k.said())
	}
}

func TestAStartInTimeIsNotCutByTheLimitOfWaitingForIt(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: append([]string{"--start-timeout", "10s"}, none...)})
	client := k.client()
	// The limit passes while the start waits for an attachment that never comes.
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "forever"), AwaitAttachIds: []string{"nobody comes"},
		AwaitAttachTimeoutMs: 12_000})
	if out, code := run(t, client, "e", nobody("probe", "say", "here", "0")); out != "here" || code != 0 {
		t.Errorf("%q and %d", out, code)
	}
	k.signal(syscall.SIGTERM)
	if code := k.exitCode(); code != 143 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestHowLongTheAgentStaysIsTheStartsToSay(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	zero := uint32(0)
	start(t, k.client(), &agentv1.StartRequest{Process: nobody("probe", "say", "x", "5"), LingerSeconds: &zero, DrainTimeoutSeconds: &zero})
	if code := k.exitCode(); code != 5 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAStopIsFollowedByAKill(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	client := k.client()
	c := attach(t, client, "a")
	second := int32(1)
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "traps"), AwaitAttachIds: []string{"a"},
		StopSignal: int32(syscall.SIGUSR1), StopTimeoutSeconds: &second})
	c.until("ready\n")
	k.signal(syscall.Signal(40)) // any real-time signal means stop as well
	if code := c.exit(); code != 137 || c.stdout.String() != "ready\ngot user defined signal 1\n" {
		t.Errorf("exit code %d, %q", code, c.stdout.String())
	}
	if code := k.exitCode(); code != 137 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestUlimitsAreTheProcesssAndItsExecs(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	k := startTask(t, taskOptions{arguments: forLong})
	process := nobody()
	process.ResourceLimits = []*agentv1.ResourceLimit{{Name: "nofile", Soft: 111, Hard: 222}, {Name: "core", Soft: 0, Hard: 0}}
	startForever(t, k, process)
	ask := &agentv1.ProcessSpec{Args: []string{"busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"}}
	if out, code := run(t, k.client(), "limits", ask); out != "111\n222\n0\n" || code != 0 {
		t.Errorf("limits %q, code %d", out, code)
	}
}

func TestAnUnlimitedLimitIsThePlatforms(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	for soft, told := range map[uint64]string{111: "111\n2345\n", math.MaxUint64: "2345\n2345\n"} {
		k := startTask(t, taskOptions{arguments: forLong})
		process := nobody()
		process.ResourceLimits = []*agentv1.ResourceLimit{{Name: "nofile", Soft: soft, Hard: math.MaxUint64}}
		startForever(t, k, process)
		ask := &agentv1.ProcessSpec{Args: []string{"busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"}}
		if out, code := run(t, k.client(), "limits", ask); out != told || code != 0 {
			t.Errorf("limits %q, code %d", out, code)
		}
	}
}

func TestALimitAboveThePlatformsFailsTheStartByName(t *testing.T) {
	t.Parallel()
	for limit, why := range map[*agentv1.ResourceLimit]string{
		{Name: "nofile", Soft: 10, Hard: 1 << 20}: "nofile",
		{Name: "files", Soft: 10, Hard: 10}:       "invalid ulimit type: files",
		{Name: "nproc", Soft: 11, Hard: 10}:       "less than or equal",
	} {
		k := startTask(t, taskOptions{arguments: none})
		process := nobody("probe", "forever")
		process.ResourceLimits = []*agentv1.ResourceLimit{limit}
		response := start(t, k.client(), &agentv1.StartRequest{Process: process})
		if failure := response.GetFailure(); failure.GetExitCode() != 128 || !strings.Contains(failure.GetMessage(), why) {
			t.Errorf("%v: %v", limit, response)
		}
	}
}

func TestAStartThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	for _, request := range []*agentv1.StartRequest{
		{Generation: 1, Process: &agentv1.ProcessSpec{}},
		{Generation: 1, Process: nobody("probe"), StopSignal: 65},
	} {
		if _, err := k.client().Start(patience(t), connect.NewRequest(request)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", request, err)
		}
	}
}
