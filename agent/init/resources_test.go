package containerinit_test

import (
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// column returns a column's values, for processes whose command has all words.
func column(t *testing.T, client agentv1connect.AgentServiceClient, name, words string) []string {
	t.Helper()
	response, err := client.Top(patience(t), connect.NewRequest(&agentv1.TopRequest{PsArgs: "-eo pid," + name + "=WANTED -o args"}))
	must(t, err)
	if !slices.Equal(response.Msg.Titles, []string{"PID", "WANTED", "COMMAND"}) {
		t.Fatalf("titles %q", response.Msg.Titles)
	}
	var values []string
	for _, row := range response.Msg.Processes {
		if strings.Contains(row.Columns[2], words) {
			values = append(values, row.Columns[1])
		}
	}
	return values
}

func TestAPausedContainerStandsStillWithAllItsProcesses(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "spawner"), AwaitAttachIds: []string{"a"}})
	executed := execute(t, client, "e", nobody("probe", "spawner"))
	executed.until("...")
	k.await("one that has stopped itself", func() bool {
		states := column(t, client, "s", "stopped")
		return len(states) == 2 && states[0] == "T" && states[1] == "T"
	})
	for range 5 {
		for range 2 { // it may be repeated
			_, err := client.Pause(patience(t), connect.NewRequest(&agentv1.PauseRequest{}))
			must(t, err)
		}
		// D: a parent that waits for its stopped child to execute.
		if states := column(t, client, "s", ""); slices.ContainsFunc(states, func(state string) bool { return !strings.Contains("TZD", state) }) {
			t.Errorf("paused, and yet %q", states)
		}
		refused := execute(t, client, "refused", nobody("probe", "dot")).end()
		if refused.GetError().GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_PAUSED {
			t.Errorf("an exec meanwhile: %v", refused)
		}
		_, err := client.Resume(patience(t), connect.NewRequest(&agentv1.ResumeRequest{}))
		must(t, err)
		c.until(strings.Repeat(".", 3))
		before := executed.stdout.Len()
		executed.until(strings.Repeat(".", before+3))
	}
	if states := column(t, client, "s", "stopped"); !slices.Equal(states, []string{"T", "T"}) {
		t.Errorf("those that had stopped themselves are %q", states)
	}
	_, err := client.Pause(patience(t), connect.NewRequest(&agentv1.PauseRequest{}))
	must(t, err)
	_, err = client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9}))
	must(t, err)
	if code := c.exit(); code != 137 {
		t.Errorf("exit code %d", code)
	}
	again := attach(t, client, "b")
	start(t, client, &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "say", "runs", "0"), AwaitAttachIds: []string{"b"}})
	if again.exit(); again.stdout.String() != "runs" {
		t.Errorf("the next run said %q", again.stdout.String())
	}
}

func TestTheContainersProcessesAreListedWithoutPs(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	client := k.client()
	if _, err := client.Top(patience(t), connect.NewRequest(&agentv1.TopRequest{})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("before the start: %v", err)
	}
	startForever(t, k, nobody())
	response, err := client.Top(patience(t), connect.NewRequest(&agentv1.TopRequest{}))
	must(t, err)
	if titles := strings.Join(response.Msg.Titles, " "); titles != "UID PID PPID C STIME TTY TIME CMD" {
		t.Errorf("titles %q", titles)
	}
	if rows := response.Msg.Processes; len(rows) != 1 || rows[0].Columns[0] != "nobody" || rows[0].Columns[2] != "1" || rows[0].Columns[7] != "probe forever" {
		t.Errorf("rows %v", rows)
	}
	for _, arguments := range []string{"-o user", "-L", "-o ppid=PID"} { // as dockerd: errors of ps
		if _, err := client.Top(patience(t), connect.NewRequest(&agentv1.TopRequest{PsArgs: arguments})); connect.CodeOf(err) != connect.CodeInternal {
			t.Errorf("%q: %v", arguments, err)
		}
	}
	if _, err := client.Update(patience(t), connect.NewRequest(&agentv1.UpdateRequest{OciResources: []byte("{}")})); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("update: %v", err)
	}
}

func TestResourceUseIsReported(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]taskOptions{
		"by its control group": {arguments: none, resources: map[string]any{"memory": map[string]any{"limit": 256 << 20}}},
		"by its processes":     {arguments: none, noCgroup: true},
	} {
		k := startTask(t, options)
		client := k.client()
		start(t, client, &agentv1.StartRequest{Process: nobody("probe", "hold", "50")})
		var reading *agentv1.StatsResponse
		k.await("use", func() bool {
			stream, err := client.Stats(patience(t), connect.NewRequest(&agentv1.StatsRequest{OneShot: true}))
			must(t, err)
			defer stream.Close()
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			reading = stream.Msg()
			return reading.Memory.Usage > 50<<20
		})
		if reading.Cpu.TotalUsageNs == 0 || reading.Cpu.SystemNs == 0 || reading.Pids.Current == 0 || reading.Memory.Limit == 0 {
			t.Errorf("%s: %v", name, reading)
		}
		if !options.noCgroup && reading.Memory.Limit != 256<<20 {
			t.Errorf("%s: limit %d", name, reading.Memory.Limit)
		}
	}
}
