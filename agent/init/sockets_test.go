package containerinit_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestConnectionsToARunsSocketsAreTheCallers(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true})
	client := k.client()
	const path = "/run/own/agent"
	c := attach(t, client, "1")
	start(t, client, &agentv1.StartRequest{
		Generation: 1, AwaitAttachIds: []string{"1"},
		Secrets: []*agentv1.SecretFile{{Path: path, Socket: true, Mode: 0o600, Uid: 1000}},
		Process: &agentv1.ProcessSpec{Args: []string{"/probe", "ask", path, "one", "two"}, Capabilities: dockerCapabilities},
	})
	for _, question := range []string{"one", "two"} {
		p := tunnelTo(t, client, &agentv1.TunnelOpen{Socket: path}).opened()
		p.until(len(question))
		if got := p.received.String(); got != question {
			t.Errorf("asked %q", got)
		}
		p.send([]byte("to " + question + ";"))
		p.end()
		if last := p.receive(); last.GetEnd() == nil {
			t.Errorf("it ends with %v", last)
		}
	}
	if code := c.exit(); code != 0 || c.stdout.String() != "to one;to two;" {
		t.Errorf("exit code %d: %q", code, c.stdout.String())
	}
	if told := tunnelTo(t, client, &agentv1.TunnelOpen{Socket: path}).receive(); !strings.Contains(told.GetError().GetMessage(), "the run has ended") {
		t.Errorf("after the end: %v", told)
	}
	assert.Check(t, is.Len(changes(t, client), 0))
	if _, there := export(t, client, false)["run/"]; there {
		t.Error("a directory that was made for a socket is left")
	}
}

func TestAWaitForAConnectionEndsWithTheRun(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true})
	client := k.client()
	start(t, client, &agentv1.StartRequest{
		Generation: 1, Secrets: []*agentv1.SecretFile{{Path: "/agent", Socket: true}},
		Process: &agentv1.ProcessSpec{Args: []string{"/probe", "forever"}, Capabilities: dockerCapabilities},
	})
	if told := tunnelTo(t, client, &agentv1.TunnelOpen{Socket: "/other"}).receive(); !strings.Contains(told.GetError().GetMessage(), "no socket /other") {
		t.Errorf("of no socket: %v", told)
	}
	waiting := tunnelTo(t, client, &agentv1.TunnelOpen{Socket: "/agent"})
	_, err := client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9}))
	must(t, err)
	if told := waiting.receive(); !strings.Contains(told.GetError().GetMessage(), "the run has ended") {
		t.Errorf("%v", told)
	}
}
