package containers

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/mounts"
)

// secretsOptions bound the size of a start's secret files; only root can read
// them until they are bound into the container.
var secretsOptions = []string{"nosuid", "nodev", "noexec", "mode=700", "size=16m"}

// mountSecrets writes the request's secret files to memory and returns their
// mounts. The configuration of a container with secret variables is written there
// too.
func (l *launch) mountSecrets() ([]ociMount, error) {
	if len(l.request.Secrets) == 0 && len(l.request.SecretEnv) == 0 {
		return nil, nil
	}
	directory := l.paths.Secrets()
	if err := os.Mkdir(directory, 0o700); err != nil {
		return nil, err
	}
	if err := (mounts.FileSystem{Type: "tmpfs", Source: "secrets", Options: secretsOptions}).Mount(directory); err != nil {
		return nil, fmt.Errorf("mount secrets: %w", err)
	}
	var added []ociMount
	for index, secret := range l.request.Secrets {
		if !path.IsAbs(secret.ContainerPath) {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the path of a secret is not absolute: %q", secret.ContainerPath))
		}
		name := filepath.Join(directory, fmt.Sprint(index))
		if err := writeSecret(name, secret.Content, os.FileMode(secret.Mode).Perm(), int(secret.Uid), int(secret.Gid)); err != nil {
			return nil, fmt.Errorf("write a secret: %w", err)
		}
		added = append(added, ociMount{secret.ContainerPath, "bind", name, []string{"bind", "rprivate", "ro", "nosuid", "nodev", "noexec"}})
	}
	return added, nil
}

// writeConfig writes the OCI configuration: to memory if it has secrets.
func (l *launch) writeConfig(config []byte) error {
	name := l.paths.Config()
	// An earlier start may have left a link.
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(l.request.SecretEnv) > 0 {
		inMemory := filepath.Join(l.paths.Secrets(), "config.json")
		if err := os.Symlink(inMemory, name); err != nil {
			return err
		}
		name = inMemory
	}
	return os.WriteFile(name, config, 0o600)
}

func writeSecret(name string, content []byte, mode os.FileMode, uid, gid int) error {
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	if err := os.Lchown(name, uid, gid); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
