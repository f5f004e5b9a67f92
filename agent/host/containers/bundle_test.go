package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/nested"
)

func completed(t *testing.T, config string, facts machineFacts) map[string]any {
	t.Helper()
	if facts.root == nil {
		facts.root = rootOf(t, t.TempDir())
	}
	raw, _, err := completeConfig(t.Context(), []byte(config), facts)
	assert.NilError(t, err)
	var value map[string]any
	assert.NilError(t, json.Unmarshal(raw, &value))
	return value
}

func rootOf(t *testing.T, directory string) *confined.Root {
	t.Helper()
	root, err := confined.Open(directory)
	assert.NilError(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func TestNoDestinationOfAMountIsALinkOfTheRoot(t *testing.T) {
	directory := t.TempDir()
	for name, target := range map[string]string{"var": "/../other", "other": "real", "sbin": "/usr/sbin", "data": "/v", "in-dev": "/dev/shm/x"} {
		assert.NilError(t, os.Symlink(target, filepath.Join(directory, name)))
	}
	assert.NilError(t, os.MkdirAll(filepath.Join(directory, "v/beneath"), 0o755))
	os.Symlink("/etc", filepath.Join(directory, "v/beneath/link"))
	got := completed(t, `{"process":{},"mounts":[{"destination":"/dev"},{"destination":"/in-dev"},{"destination":"/v/beneath/link","someday":1},
		{"destination":"/data"},{"destination":"/v/beneath/link/x"},{"destination":"/var/run/x.sock"}]}`,
		machineFacts{root: rootOf(t, directory), initExecutable: "/agent"})
	var destinations []any
	for _, mount := range got["mounts"].([]any) {
		destinations = append(destinations, mount.(map[string]any)["destination"])
	}
	want := []any{"/dev", "/dev/shm/x", "/etc", "/v", "/v/beneath/link/x", "/real/run/x.sock", "/usr/sbin/docker-init"}
	assert.Check(t, reflect.DeepEqual(destinations, want), "got %q, want %q", destinations, want)
	if first := got["mounts"].([]any)[2].(map[string]any); first["someday"] != 1.0 {
		t.Errorf("not kept: %v", first)
	}
}

func TestMountsAndDevicesInWhatIsBoundAreLeftToTheHook(t *testing.T) {
	directory := t.TempDir()
	assert.NilError(t, os.Symlink("/v", filepath.Join(directory, "link")))
	const bind = `,"type":"bind","source":"/x","options":["rbind"]}`
	config := `{"process":{},"mounts":[{"destination":"/dev","type":"tmpfs"},{"destination":"/dev/shm","type":"tmpfs"},{"destination":"/v"` + bind +
		`,{"destination":"/very"` + bind + `,{"destination":"/link/a","type":"tmpfs"},{"destination":"/v/a/b"` + bind + `,{"destination":"/dev/shm/x"` + bind + `],
		"linux":{"devices":[{"path":"/dev/fuse","type":"c","someday":1},{"path":"/v/null","type":"c"},{"path":"/link/a/zero","type":"c"}]}}`
	facts := machineFacts{root: rootOf(t, directory), hook: ociHook{Path: "/hook", Args: []string{"hook"}}}
	raw, inBinds, err := completeConfig(t.Context(), []byte(config), facts)
	assert.NilError(t, err)
	var kept struct {
		Mounts []ociMount
		Hooks  map[string][]ociHook
		Linux  struct{ Devices []map[string]any }
	}
	assert.NilError(t, json.Unmarshal(raw, &kept))
	var destinations, left []string
	for _, mount := range kept.Mounts {
		destinations = append(destinations, mount.Destination)
	}
	for _, mount := range inBinds.Mounts {
		left = append(left, mount.Destination)
	}
	if want := []string{"/dev", "/dev/shm", "/v", "/very", "/dev/shm/x"}; !reflect.DeepEqual(destinations, want) {
		t.Errorf("kept are %q, want %q", destinations, want)
	}
	if want := []string{"/v/a", "/v/a/b"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left to the hook are %q, want %q", left, want)
	}
	if want := []map[string]any{{"path": "/dev/fuse", "type": "c", "someday": 1.0}}; !reflect.DeepEqual(kept.Linux.Devices, want) {
		t.Errorf("kept are the devices %v, want %v", kept.Linux.Devices, want)
	}
	if want := []nested.Device{{Path: "/v/null", Type: "c"}, {Path: "/v/a/zero", Type: "c"}}; !reflect.DeepEqual(inBinds.Devices, want) {
		t.Errorf("left to the hook are the devices %v, want %v", inBinds.Devices, want)
	}
	if want := map[string][]ociHook{"createContainer": {facts.hook}}; !reflect.DeepEqual(kept.Hooks, want) {
		t.Errorf("hooks are %v", kept.Hooks)
	}
}

func TestTheMachinesFactsAreFilledInAndTheRestIsKept(t *testing.T) {
	got := completed(t, `{
		"ociVersion": "1.0.2", "someday": {"x": [1, 2.5, 12345678901234567890]},
		"process": {"args": ["sh"], "user": {"umask": 18}, "rlimits": [],
			"capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}},
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
		"process": {"args": ["/sbin/docker-init", "--", "sh"], "user": {"umask": 18, "uid": 1, "gid": 2, "additionalGids": [2, 3]}, "rlimits": [],
			"capabilities": {"bounding": ["CAP_KILL"]}},
		"root": {"readonly": true, "path": "/root/fs"},
		"mounts": [{"destination": "/proc", "type": "proc", "uidMappings": null},
			{"destination": "/etc/hosts", "type": "bind", "source": "/files/hosts", "options": ["rbind"]},
			{"destination": "/sbin/docker-init", "type": "bind", "source": "/agent", "options": ["bind", "ro", "rprivate"]}],
		"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/ns"}], "seccomp": {"defaultAction": "x"}, "cgroupsPath": "/sockerless/id"}
	}`), &want)
	assert.NilError(t, err)
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
		if _, _, err := completeConfig(t.Context(), []byte(config), machineFacts{}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestADestinationOfTooManyNamesIsRefusedAtOnce(t *testing.T) {
	directory := t.TempDir()
	deep := strings.Repeat("/a", 1_000)
	assert.NilError(t, os.Symlink(deep, filepath.Join(directory, "link")))
	for _, config := range []string{
		`{"process":{},"mounts":[{"destination":"` + deep + `"}]}`,
		`{"process":{},"mounts":[{"destination":"/link/x"}]}`,
		`{"process":{},"linux":{"devices":[{"path":"` + deep + `"}]}}`,
	} {
		_, _, err := completeConfig(t.Context(), []byte(config), machineFacts{root: rootOf(t, directory)})
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "more than 255 names") {
			t.Errorf("%.60s: %v", config, err)
		}
	}
}

func TestAConfigurationIsNotCompletedForACallerWhoHasLeft(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, config := range []string{
		`{"process":{},"mounts":[{"destination":"/a"}]}`, `{"process":{},"linux":{"devices":[{"path":"/a"}]}}`,
	} {
		_, _, err := completeConfig(left, []byte(config), machineFacts{root: rootOf(t, t.TempDir())})
		if !errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeInvalidArgument {
			t.Errorf("%s: %v", config, err)
		}
	}
}

// Their product would be minutes of a processor for a step of 100,000 of each.
func TestEachSecretVariableIsNotComparedWithEachOther(t *testing.T) {
	const count = 2000
	var own, secret []string
	for i := range count {
		own = append(own, fmt.Sprintf("A_NAME_THAT_IS_LONGER_THAN_A_STRING_ON_THE_STACK_%d=own", i))
		secret = append(secret, fmt.Sprintf("A_NAME_THAT_IS_LONGER_THAN_A_STRING_ON_THE_STACK_%d=secret", i+1))
	}
	config, err := json.Marshal(map[string]any{"process": map[string]any{"env": own}})
	assert.NilError(t, err)
	facts := machineFacts{root: rootOf(t, t.TempDir()), env: secret}
	var env []any
	allocations := testing.AllocsPerRun(1, func() {
		env = completed(t, string(config), facts)["process"].(map[string]any)["env"].([]any)
	})
	assert.Check(t, allocations <= 100*count, "%.0f allocations for %d variables", allocations, count)
	if len(env) != count+1 || env[0] != own[0] || env[1] != secret[0] {
		t.Errorf("%d variables: %q", len(env), env[:2])
	}
}
