package shim_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

func TestAStartTakesNoCommandOfTheRuntimeAndTheRuntimeKnowsThatItRuns(t *testing.T) {
	real := needRuntime(t)
	dir := t.TempDir()
	commands := filepath.Join(dir, "commands")
	wrapper := filepath.Join(dir, "runc")
	script := "#!/bin/sh\necho \"$*\" >>" + commands + "\nexec " + real + " \"$@\"\n"
	must(t, os.WriteFile(wrapper, []byte(script), 0o755))
	c := launch(t, launchOptions{args: sleeper, spec: func(spec *shimspec.Spec) { spec.Runtime = wrapper }})
	if got := c.runtimeStatus(real); got != "created" {
		t.Fatalf("launched: %s", got)
	}
	c.mustRun()
	if got := c.runtimeStatus(real); got != "running" {
		t.Fatalf("started: %s", got)
	}
	ran, err := os.ReadFile(commands)
	must(t, err)
	if !strings.Contains(string(ran), " create ") || strings.Contains(string(ran), " start ") {
		t.Fatalf("commands: %s", ran)
	}
}

func TestAnotherRuntimesContainersAreStartedByItself(t *testing.T) {
	real := needRuntime(t)
	other := filepath.Join(t.TempDir(), "other-runtime")
	must(t, os.Symlink(real, other))
	c := launch(t, launchOptions{args: sleeper, spec: func(spec *shimspec.Spec) { spec.Runtime = other }})
	c.mustRun()
	if got := c.runtimeStatus(real); got != "running" {
		t.Fatalf("started: %s", got)
	}
}

// runtimeStatus is the status in the runtime's own records.
func (c *container) runtimeStatus(runtime string) string {
	c.t.Helper()
	output, err := exec.Command(runtime, "--root", c.spec.RuntimeRoot, "state", c.spec.ContainerID).Output()
	must(c.t, err)
	var state struct{ Status string }
	must(c.t, json.Unmarshal(output, &state))
	return state.Status
}
