// Package ociruntime drives the OCI runtime (runc or crun) by its command line,
// as far as the host process needs it: finding it, killing, deleting.
package ociruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A runtime that hangs must not hang us for ever: killing and deleting take
// milliseconds, but `delete --force` polls for ten seconds.
const commandLimit = 20 * time.Second

// Runtime is an OCI runtime with the state directory of one instance.
type Runtime struct {
	Path string // executable
	Root string // --root
}

// Knows says whether the runtime keeps state of the container: it was created
// and not deleted.
func (r Runtime) Knows(containerID string) bool {
	_, err := os.Lstat(filepath.Join(r.Root, containerID))
	return err == nil
}

// Kill sends SIGKILL to the container's init. A container that does not run is
// no error.
func (r Runtime) Kill(ctx context.Context, containerID string) error {
	err := r.run(ctx, "kill", containerID, "KILL")
	if err != nil && (strings.Contains(err.Error(), "not running") || strings.Contains(err.Error(), "does not exist") ||
		strings.Contains(err.Error(), "No such process") || strings.Contains(err.Error(), "process already finished")) {
		return nil
	}
	return err
}

// Delete kills what still runs and deletes the container with its cgroups. An
// unknown container is no error.
func (r Runtime) Delete(ctx context.Context, containerID string) error {
	if !r.Knows(containerID) {
		return nil
	}
	err := r.run(ctx, "delete", "--force", containerID)
	if err != nil && r.Knows(containerID) {
		return err
	}
	return nil
}

func (r Runtime) run(ctx context.Context, arguments ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	command := exec.CommandContext(ctx, r.Path, append([]string{"--root", r.Root}, arguments...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Run(); err != nil {
		if message := strings.TrimSpace(stderr.String()); message != "" {
			err = errors.New(message)
		}
		return fmt.Errorf("%s %s: %w", filepath.Base(r.Path), strings.Join(arguments, " "), err)
	}
	return nil
}
