package shim

import (
	"context"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// endTogether kills the container's other processes when the main process ends.
// The kernel does that in the container's own PID namespace; in another
// container's, or the machine's, they would run on and keep the output open.
func (c *localContainer) endTogether() error {
	own, err := ownsPIDNamespace(filepath.Join(c.spec.Bundle, "config.json"))
	if err != nil || own {
		return err
	}
	go func() {
		<-c.main().child.Done()
		// It fails if nothing is left; what it cannot kill ends when the
		// container is deleted.
		_ = c.SignalAll(context.Background(), unix.SIGKILL)
	}()
	return nil
}

type ociNamespace struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

// ownsPIDNamespace reports whether an OCI configuration has its own PID
// namespace.
func ownsPIDNamespace(configFile string) (bool, error) {
	var config struct {
		Linux struct {
			Namespaces []ociNamespace `json:"namespaces"`
		} `json:"linux"`
	}
	if _, err := readConfiguration(configFile, &config); err != nil {
		return false, err
	}
	return slices.ContainsFunc(config.Linux.Namespaces, func(n ociNamespace) bool {
		return n.Type == "pid" && n.Path == ""
	}), nil
}
