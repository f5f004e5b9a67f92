package containerinit_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestAPreparedAgentIsClaimedByOneContainerOnce(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none, env: []string{"SOCKERLESS_PREPARED=shape"}})
	client := k.client()
	startRequest := &agentv1.StartRequest{Generation: 1, Process: nobody("probe", "say", "x", "7")}
	if _, err := client.Start(patience(t), connect.NewRequest(startRequest)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a start before the claim: %v", err)
	}
	container := strings.Repeat("c", 64)
	if _, err := client.Claim(patience(t), connect.NewRequest(&agentv1.ClaimRequest{ContainerId: "c"})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a claim for no container: %v", err)
	}
	claim := connect.NewRequest(&agentv1.ClaimRequest{ContainerId: container, StartTimeoutSeconds: 60})
	claimed, err := client.Claim(patience(t), claim)
	must(t, err)

	if _, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("the connection from before the claim is answered: %v", err)
	}
	if _, err := k.client().Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{})); err == nil {
		t.Error("a client of the name before is admitted")
	}
	var key []byte
	seen := func(c *tls.Config) {
		c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
			leaf, err := x509.ParseCertificate(raw[0])
			must(t, err)
			sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
			key = sum[:]
			if leaf.URIs[0].String() != "sockerless://container/"+container {
				t.Errorf("names %v", leaf.URIs)
			}
			return nil
		}
	}
	own := dial(t, k.address, seen, k.ca.issue(container, nil))
	hello, err := own.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	if hello.Msg.ContainerId != container || !bytes.Equal(key, claimed.Msg.Pin) {
		t.Errorf("hello %v, key %x, claim answered %x", hello.Msg, key, claimed.Msg.Pin)
	}
	if _, err := own.Claim(patience(t), claim); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a second claim: %v", err)
	}
	start(t, own, startRequest)
	if code := k.exitCode(); code != 7 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAnAgentThatWasNotPreparedCannotBeClaimed(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	claim := connect.NewRequest(&agentv1.ClaimRequest{ContainerId: strings.Repeat("c", 64)})
	if _, err := k.client().Claim(patience(t), claim); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a claim: %v", err)
	}
}

func TestAClaimedAgentWaitsForItsStartAsLongAsTheClaimSays(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none, env: []string{"SOCKERLESS_PREPARED=shape", "SOCKERLESS_START_TIMEOUT=10m"}})
	claim := connect.NewRequest(&agentv1.ClaimRequest{ContainerId: strings.Repeat("c", 64), StartTimeoutSeconds: 1})
	_, err := k.client().Claim(patience(t), claim)
	must(t, err)
	if code := k.exitCode(); code != 125 {
		t.Errorf("the agent exited with %d", code)
	}
}
