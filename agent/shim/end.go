package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// endTogether has the end of the main process end the others. In a PID namespace
// of the container's own the kernel does that; in another's, or the machine's,
// they would go on and keep the container's output open.
func (c *localContainer) endTogether() error {
	own, err := ownsPIDNamespace(filepath.Join(c.spec.Bundle, "config.json"))
	if err != nil || own {
		return err
	}
	go func() {
		<-c.main().child.Done()
		// The runtime says so where nothing is left; what it cannot end now is
		// ended by the container's deletion.
		_ = c.SignalAll(context.Background(), unix.SIGKILL)
	}()
	return nil
}

type ociNamespace struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

// ownsPIDNamespace reads it of an OCI runtime configuration.
func ownsPIDNamespace(configFile string) (bool, error) {
	content, err := os.ReadFile(configFile)
	if err != nil {
		return false, fmt.Errorf("read the OCI configuration: %w", err)
	}
	var config struct {
		Linux struct {
			Namespaces []ociNamespace `json:"namespaces"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(content, &config); err != nil {
		return false, fmt.Errorf("parse the OCI configuration: %w", err)
	}
	return slices.ContainsFunc(config.Linux.Namespaces, func(n ociNamespace) bool {
		return n.Type == "pid" && n.Path == ""
	}), nil
}
