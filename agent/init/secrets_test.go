package containerinit_test

import (
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestARunsSecretsAreThereForItAlone(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true})
	client := k.client()
	generation := uint64(0)
	run := func(secrets []*agentv1.SecretFile, env []string, arguments ...string) string {
		t.Helper()
		generation++
		id := strconv.Itoa(int(generation))
		c := attach(t, client, id)
		start(t, client, &agentv1.StartRequest{
			Generation: generation, ChangesAnew: generation > 1, AwaitAttachIds: []string{id}, Secrets: secrets, SecretEnv: env,
			Process: &agentv1.ProcessSpec{Args: append([]string{"/probe"}, arguments...), Env: []string{"TOKEN=usual"}, Capabilities: dockerCapabilities},
		})
		if code := c.exit(); code != 0 {
			t.Fatalf("exit code %d: %s", code, c.stdout.String())
		}
		assert.Check(t, is.Len(changes(t, client), 0))
		if layer := export(t, client, true); len(layer) != 0 {
			t.Errorf("the layer has %q", layer)
		}
		return c.stdout.String()
	}
	secrets := []*agentv1.SecretFile{
		{Path: "/run/secrets/token", Content: []byte("first"), Mode: 0o400},
		{Path: "/etc/group", Content: []byte("second"), Mode: 0o444, Uid: 1000},
	}
	if said := run(secrets, nil, "read", "/run/secrets/token"); !strings.HasPrefix(said, "first<nil>") {
		t.Errorf("the run reads %q", said)
	}
	if said := run(nil, nil, "read", "/run/secrets/token"); !strings.Contains(said, "no such file") {
		t.Errorf("the next run reads %q", said)
	}
	if whole := export(t, client, false); strings.HasPrefix(whole["etc/group"], "second") || whole["etc/group"] == "" {
		t.Errorf("what was there has not come back: %q", whole["etc/group"])
	} else if _, there := whole["run/"]; there {
		t.Error("a directory that was made for a secret is left")
	}
	if said := run(secrets, nil, "read", "/etc/group"); !strings.HasPrefix(said, "second<nil>") {
		t.Errorf("the run reads %q", said)
	}
	if said := run(nil, []string{"TOKEN=secret"}, "env"); !strings.Contains(said, "TOKEN=secret") || strings.Contains(said, "TOKEN=usual") {
		t.Errorf("variables %q", said)
	}
	if said := run(nil, nil, "env"); !strings.Contains(said, "TOKEN=usual") {
		t.Errorf("the next run's variables %q", said)
	}
}

func TestASecretIsPutIntoNoVolume(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true})
	secret := &agentv1.SecretFile{Path: "/data/below/token", Content: []byte("secret")}
	answer := start(t, k.client(), &agentv1.StartRequest{
		Secrets: []*agentv1.SecretFile{{Path: "/first", Content: []byte("secret")}, secret},
		Process: &agentv1.ProcessSpec{Args: []string{"/probe", "env"}, Capabilities: dockerCapabilities},
	})
	if told := answer.GetFailure().GetMessage(); !strings.Contains(told, "put a file at /data/below/token: a mount would keep it") {
		t.Errorf("%v", answer)
	}
	assert.Check(t, is.Len(changes(t, k.client()), 0))
}
