package containers

import (
	"encoding/json"
	"reflect"
	"testing"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/identity"
)

func completed(t *testing.T, config string, facts machineFacts) map[string]any {
	t.Helper()
	raw, err := completeConfig([]byte(config), facts)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestTheMachinesFactsAreFilledInAndTheRestIsKept(t *testing.T) {
	got := completed(t, `{
		"ociVersion": "1.0.2", "someday": {"x": [1, 2.5, 12345678901234567890]},
		"process": {"args": ["sh"], "user": {"umask": 18}, "rlimits": []},
		"root": {"readonly": true},
		"mounts": [{"destination": "/proc", "type": "proc", "uidMappings": null}],
		"linux": {"namespaces": [{"type": "pid"}, {"type": "network"}], "seccomp": {"defaultAction": "x"}}
	}`, machineFacts{
		rootfs: "/root/fs", user: identity.Identity{UID: 1, GID: 2, AdditionalGIDs: []uint32{2, 3}},
		namespaces: map[string]string{"network": "/ns"}, cgroupsPath: "/sockerless/id", initExecutable: "/agent",
		mounts: []ociMount{{"/etc/hosts", "bind", "/files/hosts", []string{"rbind"}}},
	})
	var want map[string]any
	err := json.Unmarshal([]byte(`{
		"ociVersion": "1.0.2", "someday": {"x": [1, 2.5, 12345678901234567890]},
		"process": {"args": ["/sbin/docker-init", "--", "sh"], "user": {"umask": 18, "uid": 1, "gid": 2, "additionalGids": [2, 3]}, "rlimits": []},
		"root": {"readonly": true, "path": "/root/fs"},
		"mounts": [{"destination": "/proc", "type": "proc", "uidMappings": null},
			{"destination": "/etc/hosts", "type": "bind", "source": "/files/hosts", "options": ["rbind"]},
			{"destination": "/sbin/docker-init", "type": "bind", "source": "/agent", "options": ["bind", "ro", "rprivate"]}],
		"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/ns"}], "seccomp": {"defaultAction": "x"}, "cgroupsPath": "/sockerless/id"}
	}`), &want)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestTheMachinesNetworkIsNoNamespace(t *testing.T) {
	got := completed(t, `{"process":{},"linux":{"namespaces":[{"type":"network"},{"type":"mount"}],"cgroupsPath":"/mine/x"}}`,
		machineFacts{cgroupsPath: "/sockerless/id"})
	want := map[string]any{"namespaces": []any{map[string]any{"type": "mount"}}, "cgroupsPath": "/mine/x"}
	if !reflect.DeepEqual(got["linux"], want) {
		t.Errorf("got %v", got["linux"])
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for _, config := range []string{
		``, `[]`, `null`, `{}`, `{"process":null}`, `{"process":[]}`, `{"process":{"user":7}}`, `{"process":{},"mounts":{}}`, `{"process":{},"linux":[]}`,
		`{"process":{},"hooks":{"prestart":[{"path":"/bin/sh"}]}}`, `{"process":{},"hooks":[]}`, `{"process":{},"HOOKS":{"poststop":[]}}`,
	} {
		if _, err := completeConfig([]byte(config), machineFacts{}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", config, err)
		}
	}
}
