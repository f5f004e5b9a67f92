package shim_test

import (
	"runtime"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func (c *container) oneReading() (*agentv1.StatsResponse, error) {
	c.t.Helper()
	stream, err := c.client.Stats(contextFor(c.t), connect.NewRequest(&agentv1.StatsRequest{OneShot: true}))
	must(c.t, err)
	defer stream.Close()
	if !stream.Receive() {
		return nil, stream.Err()
	}
	return stream.Msg(), nil
}

func TestNewLimitsShowInTheResourceUse(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	before, err := c.oneReading()
	must(t, err)
	if before.Cpu.TotalUsageNs == 0 || before.Memory.Usage == 0 || before.Pids.Current == 0 || before.Memory.Limit == 32<<20 {
		t.Fatal(before)
	}
	_, err = c.client.Update(contextFor(t), connect.NewRequest(&agentv1.UpdateRequest{
		OciResources: []byte(`{"memory":{"limit":33554432},"pids":{"limit":77}}`),
	}))
	must(t, err)
	after, err := c.oneReading()
	must(t, err)
	if after.Memory.Limit != 32<<20 || after.Pids.Limit != 77 {
		t.Fatal(after.Memory.Limit, after.Pids)
	}
}

// The runtime's own threads count, too, one more while its library makes the filter.
func TestAContainerMayBeAllowedOneProcess(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the profile is for x86")
	}
	_, filter := dockerProfile(t)
	for range 5 {
		c := launch(t, launchOptions{args: []string{"true"}, config: func(config map[string]any) {
			linux := config["linux"].(map[string]any)
			linux["seccomp"] = filter
			linux["resources"] = map[string]any{"pids": map[string]any{"limit": 1}}
		}})
		events := c.watch()
		c.mustRun()
		if exit := await(t, events, exitedEvent).GetExited(); exit.Code != 0 {
			t.Fatal(exit)
		}
	}
}

func TestLimitsThatCannotBeAreRefusedInTheRuntimesWords(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	_, err := c.client.Update(contextFor(t), connect.NewRequest(&agentv1.UpdateRequest{
		OciResources: []byte(`{"cpu":{"cpus":"4000"}}`),
	}))
	assert.Assert(t, connect.CodeOf(err) == connect.CodeInternal, err)
}

func TestTheProcessesOfExecsAreListedToo(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("echo up; sleep 4242")})
	s.until("up\n")
	table, err := c.client.Top(contextFor(t), connect.NewRequest(&agentv1.TopRequest{PsArgs: "-o pid,args"}))
	must(t, err)
	found := false
	for _, row := range table.Msg.Processes {
		found = found || strings.Contains(row.Columns[1], "sleep 4242")
	}
	if !found || len(table.Msg.Processes) < 2 {
		t.Fatal(table.Msg)
	}
}

func TestAContainerThatHasEndedUsesNothing(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"true"}})
	events := c.watch()
	c.mustRun()
	await(t, events, exitedEvent)
	if _, err := c.oneReading(); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Error(err)
	}
	if _, err := c.client.Top(contextFor(t), connect.NewRequest(&agentv1.TopRequest{})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Error(err)
	}
	if _, err := c.client.Update(contextFor(t), connect.NewRequest(&agentv1.UpdateRequest{OciResources: []byte("{}")})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Error(err)
	}
}
