package shim_test

import (
	"maps"
	"strings"
	"testing"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestExecsHaveNoSecretVariablesOfTheMainProcess(t *testing.T) {
	for name, fields := range map[string]map[string]any{
		"directly": {},
		// It changes nothing, but leaves execs to the runtime.
		"by the runtime": {"scheduler": map[string]any{"policy": "SCHED_OTHER"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := launch(t, launchOptions{
				args: sleeper,
				spec: func(s *spec) { s.SecretEnv = []string{"TOKEN"} },
				config: func(config map[string]any) {
					process := config["process"].(map[string]any)
					process["env"] = []string{"TOKEN=hush", "PATH=/bin", "KEPT=kept"}
					maps.Copy(process, fields)
					config["linux"].(map[string]any)["seccomp"] = seccomp()
				},
			})
			c.mustRun()
			s := c.exec("inherits", &agentv1.ProcessSpec{Args: []string{"env"}}).finish()
			s.expectExit(0)
			if output := s.stdout.String(); strings.Contains(output, "TOKEN") || !strings.Contains(output, "KEPT=kept\n") {
				t.Errorf("it inherits %q", output)
			}
			s = c.exec("brings", &agentv1.ProcessSpec{Args: []string{"env"}, Env: []string{"TOKEN=own"}}).finish()
			s.expectExit(0)
			if output := s.stdout.String(); !strings.Contains(output, "TOKEN=own\n") {
				t.Errorf("it has %q", output)
			}
		})
	}
}
