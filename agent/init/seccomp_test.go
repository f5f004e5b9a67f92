package containerinit_test

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"testing"
)

// seccompFile is Docker's default filter as the local driver applies it.
const seccompFile = "../../src/backends/local/oci/default-seccomp.json"

// dockerSeccomp is the filter for a container with Docker's default
// capabilities on this architecture, as an OCI runtime takes it.
func dockerSeccomp(t *testing.T) map[string]any {
	t.Helper()
	content, err := os.ReadFile(seccompFile)
	must(t, err)
	type condition struct {
		Caps   []string `json:"caps"`
		Arches []string `json:"arches"`
	}
	var profile struct {
		DefaultAction   string `json:"defaultAction"`
		DefaultErrnoRet int    `json:"defaultErrnoRet"`
		ArchMap         []struct {
			Architecture     string   `json:"architecture"`
			SubArchitectures []string `json:"subArchitectures"`
		} `json:"archMap"`
		Syscalls []struct {
			Names    []string         `json:"names"`
			Action   string           `json:"action"`
			ErrnoRet *int             `json:"errnoRet"`
			Args     []map[string]any `json:"args"`
			Includes condition        `json:"includes"`
			Excludes condition        `json:"excludes"`
		} `json:"syscalls"`
	}
	must(t, json.Unmarshal(content, &profile))
	holds := func(c condition) (caps, arches bool) {
		for _, name := range c.Caps {
			caps = caps || slices.Contains(dockerCapabilities, name)
		}
		return caps || len(c.Caps) == 0, len(c.Arches) == 0 || slices.Contains(c.Arches, runtime.GOARCH)
	}
	var calls []map[string]any
	for _, rule := range profile.Syscalls {
		caps, arches := holds(rule.Includes)
		noCaps, noArches := holds(rule.Excludes)
		excluded := len(rule.Excludes.Caps) > 0 && noCaps || len(rule.Excludes.Arches) > 0 && noArches
		if !caps || !arches || excluded {
			continue
		}
		call := map[string]any{"names": rule.Names, "action": rule.Action}
		if rule.Args != nil {
			call["args"] = rule.Args
		}
		if rule.ErrnoRet != nil {
			call["errnoRet"] = *rule.ErrnoRet
		}
		calls = append(calls, call)
	}
	var architectures []string
	for _, a := range profile.ArchMap {
		if a.Architecture == map[string]string{"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[runtime.GOARCH] {
			architectures = append(append(architectures, a.Architecture), a.SubArchitectures...)
		}
	}
	return map[string]any{"defaultAction": profile.DefaultAction, "defaultErrnoRet": profile.DefaultErrnoRet, "architectures": architectures, "syscalls": calls}
}
