package shim_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func peersOf(network string, peers map[string]string) *agentv1.NamesRequest {
	named := &agentv1.NamedNetwork{Name: network}
	for name, address := range peers {
		named.Peers = append(named.Peers, &agentv1.NamedPeer{Names: []string{name}, Addresses: []string{address}})
	}
	return &agentv1.NamesRequest{Networks: []*agentv1.NamedNetwork{named}}
}

func (c *container) tell(request *agentv1.NamesRequest) error {
	_, err := c.client.Names(context.Background(), connect.NewRequest(request))
	return err
}

// outputOf runs a script in the container to its end.
func (c *container) outputOf(id, script string) string {
	c.t.Helper()
	session := c.exec(id, &agentv1.ProcessSpec{Args: sh("%s", script), Privileged: true}).finish()
	return session.stdout.String() + session.stderr.String()
}

func TestNamesAreAnsweredAt127_0_0_11WhileTheContainerHasPort53ForItself(t *testing.T) {
	c := launch(t, launchOptions{
		args: []string{"/bin/sleep", "1000"},
		spec: publishing(newNamespace(t)),
	})
	must(t, c.tell(peersOf("backend", map[string]string{"web": "172.18.0.2"})))
	c.mustRun()
	if got := c.outputOf("early", "nslookup -type=a web 127.0.0.11"); !strings.Contains(got, "172.18.0.2") {
		t.Errorf("web is not found: %s", got)
	}
	must(t, c.tell(peersOf("backend", map[string]string{"late": "172.18.0.3"})))
	if got := c.outputOf("late", "nslookup -type=a late 127.0.0.11"); !strings.Contains(got, "172.18.0.3") {
		t.Errorf("late is not found: %s", got)
	}
	if got := c.outputOf("own", "nc -l -p 53 </dev/null & until netstat -ltn | grep -q ':53 '; do kill -0 $! || exit 1; done; echo bound; kill $!"); !strings.Contains(got, "bound") {
		t.Errorf("port 53 is not the container's: %s", got)
	}
}

func TestAContainerOnTheMachinesNetworkHasNoResolver(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"/bin/sleep", "1000"}})
	if err := c.tell(&agentv1.NamesRequest{}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("answered %v", err)
	}
}
