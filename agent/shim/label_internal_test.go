package shim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// A machine without AppArmor runs no container that has a profile.
func TestExecsOfAContainerWithAnAppArmorProfileHaveItFromTheRuntime(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json")
	content := `{"process":{"args":["sleep"],"cwd":"/","apparmorProfile":"mine","capabilities":{}}}`
	assert.NilError(t, os.WriteFile(config, []byte(content), 0o600))
	template, err := readProcessTemplate(config, nil)
	assert.NilError(t, err)
	specification, err := template.processFor(&agentv1.ProcessSpec{Args: []string{"id"}}, nil)
	if err != nil || !strings.Contains(string(specification), `"apparmorProfile":"mine"`) {
		t.Fatalf("%s, %v", specification, err)
	}
	if _, err := new(confinement).enterSpec(specification, nil); !errors.Is(err, errRuntimeOnly) || !strings.Contains(err.Error(), "a security label") {
		t.Errorf("made without the runtime: %v", err)
	}
}
