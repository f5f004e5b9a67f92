package shim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/core/environment"
	"github.com/sockerless/sockerless/agent/core/identity"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// processTemplate is config.json's `process`, from which execs are built. Unknown
// fields are kept unchanged.
type processTemplate struct {
	fields map[string]json.RawMessage
	env    []string
	// The container's, 0: none.
	pidsLimit int64
}

// readConfiguration parses an OCI runtime configuration, and returns its text.
func readConfiguration(name string, into any) ([]byte, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the OCI configuration: %w", err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return nil, fmt.Errorf("parse the OCI configuration: %w", err)
	}
	return content, nil
}

// readProcessTemplate reads the template from an OCI runtime configuration,
// without the variables named by secretEnv.
func readProcessTemplate(name string, secretEnv []string) (*processTemplate, error) {
	var config struct {
		Process map[string]json.RawMessage `json:"process"`
		Linux   struct {
			Resources struct {
				Pids struct {
					Limit int64 `json:"limit"`
				} `json:"pids"`
			} `json:"resources"`
		} `json:"linux"`
	}
	if _, err := readConfiguration(name, &config); err != nil {
		return nil, err
	}
	t := &processTemplate{fields: config.Process, pidsLimit: config.Linux.Resources.Pids.Limit}
	if env := config.Process["env"]; env != nil {
		if err := json.Unmarshal(env, &t.env); err != nil {
			return nil, fmt.Errorf("parse the OCI configuration's environment: %w", err)
		}
	}
	t.env = environment.Overlay(t.env, secretEnv)
	return t, nil
}

// ociUser is process.user.
type ociUser struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	AdditionalGIDs []uint32 `json:"additionalGids,omitempty"`
}

// processFor builds the `process` of one exec. What the exec does not set is the
// main process's.
func (t *processTemplate) processFor(spec *agentv1.ProcessSpec, root *os.File) ([]byte, error) {
	fields := make(map[string]any, len(t.fields)+4)
	for name, value := range t.fields {
		fields[name] = value
	}
	delete(fields, "commandLine") // Windows' form of args
	fields["args"] = spec.Args
	env := environment.Overlay(t.env, spec.Env)
	if spec.Tty {
		env = environment.WithDefault(env, "TERM", "xterm")
	}
	fields["env"] = env
	fields["terminal"] = spec.Tty
	delete(fields, "consoleSize")
	if size := spec.ConsoleSize; spec.Tty && size != nil && size.Height > 0 && size.Width > 0 {
		fields["consoleSize"] = map[string]uint32{"height": size.Height, "width": size.Width}
	}
	if spec.WorkingDir != "" {
		fields["cwd"] = spec.WorkingDir
	}
	if spec.User != "" {
		user, err := identity.ResolveIn(root, spec.User, spec.AdditionalGroups)
		if err != nil {
			return nil, err
		}
		fields["user"] = ociUser{UID: user.UID, GID: user.GID, AdditionalGIDs: user.AdditionalGIDs}
	}
	if spec.Privileged {
		// This process's capabilities: a machine that is itself confined may lack
		// some, and the runtime refuses to grant those.
		held, err := capability.Effective()
		if err != nil {
			return nil, err
		}
		all := held.Names()
		fields["capabilities"] = map[string][]string{"bounding": all, "effective": all, "permitted": all}
	}
	if spec.NoNewPrivileges {
		fields["noNewPrivileges"] = true
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		return nil, fmt.Errorf("encode the exec's process: %w", err)
	}
	return out.Bytes(), nil
}
