package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/mounts"
)

// machineSharedMemory is the /dev/shm of a container in the machine's own IPC
// namespace.
const machineSharedMemory = "/dev/shm"

// sharedMemoryOf is a donor's /dev/shm. INVALID_ARGUMENT: the donor does not
// share it.
func sharedMemoryOf(d *donor) (string, error) {
	info, err := os.Stat(d.sharedMemory)
	if err == nil && info.IsDir() {
		return d.sharedMemory, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return "", connect.NewError(connect.CodeInvalidArgument,
		fmt.Errorf("container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", d.id))
}

// makeSharedMemory mounts the configuration's /dev/shm where other containers can
// bind it. A mount there by the user is not shared.
func (l *launch) makeSharedMemory() error {
	options, own := sharedMemoryOptions(l.request.OciSpec)
	switch {
	case !hasNamespace(l.request.OciSpec, "ipc"):
		l.spec.SharedMemory = machineSharedMemory
		return nil
	case !l.request.IpcShareable || !own:
		return nil
	}
	directory := l.paths.SharedMemory()
	if err := os.Mkdir(directory, 0o700); err != nil {
		return err
	}
	if err := (mounts.FileSystem{Type: "tmpfs", Source: "shm", Options: options}).Mount(directory); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	l.spec.SharedMemory = directory
	return nil
}

// isSharedMemory distinguishes the standard mount at /dev/shm from the user's.
func isSharedMemory(mount ociMount) bool {
	return mount.Destination == "/dev/shm" && mount.Type == "tmpfs" && mount.Source == "shm"
}

// sharedMemoryOptions are the options of the configuration's /dev/shm; false: it
// is the user's, or missing.
func sharedMemoryOptions(config []byte) ([]string, bool) {
	var spec struct {
		Mounts []ociMount `json:"mounts"`
	}
	if json.Unmarshal(config, &spec) != nil {
		return nil, false // completeConfig reports the error
	}
	if at := slices.IndexFunc(spec.Mounts, isSharedMemory); at >= 0 {
		return spec.Mounts[at].Options, true
	}
	return nil, false
}

// hasNamespace reports whether the configuration has a namespace of this type,
// created or joined.
func hasNamespace(config []byte, kind string) bool {
	var spec struct {
		Linux struct {
			Namespaces []namespace `json:"namespaces"`
		} `json:"linux"`
	}
	return json.Unmarshal(config, &spec) == nil &&
		slices.ContainsFunc(spec.Linux.Namespaces, func(n namespace) bool { return n.Type == kind })
}
