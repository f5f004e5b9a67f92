package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// volumePart is a launch's mount of a part of a volume.
type volumePart struct {
	file        *os.File // what it may show
	destination string
}

// openVolumes mounts the container's volumes, and refuses mounts of a part of a
// volume if a container has put a link on its path that leads out of the volume.
func (l *launch) openVolumes(ctx context.Context) error {
	var spec struct {
		Mounts []ociMount `json:"mounts"`
	}
	if json.Unmarshal(l.request.OciSpec, &spec) != nil {
		return nil // completeConfig reports the error
	}
	for _, mount := range spec.Mounts {
		if err := l.volumes.Hold(ctx, l.request.ContainerId, mount.Source); err != nil {
			return err
		}
		if l.volumes.PartOf(mount.Source) == "" {
			continue
		}
		file, err := l.volumes.OpenSource(mount.Source)
		if err != nil {
			return err
		}
		l.parts = append(l.parts, volumePart{file, mount.Destination})
	}
	return nil
}

// verifyVolumeParts is called once the container is created and before its
// command runs: the runtime has followed the paths itself, and another container
// with the volume may have changed a link meanwhile.
func (l *launch) verifyVolumeParts(pid int) error {
	if len(l.parts) == 0 || pid == 0 {
		return nil // the command cannot be executed, there is nothing to see
	}
	root, err := confined.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return fmt.Errorf("look at the container's mounts: %w", err)
	}
	defer root.Close()
	for _, part := range l.parts {
		mounted, err := root.Open(part.destination, unix.O_PATH, 0)
		if err != nil {
			return fmt.Errorf("look at the container's mount %s: %w", part.destination, err)
		}
		same, err := isSameFile(int(part.file.Fd()), mounted)
		unix.Close(mounted)
		if err != nil {
			return err
		}
		if !same {
			return connect.NewError(connect.CodeInvalidArgument,
				fmt.Errorf("the path of the volume's part at %s was changed while it was mounted", part.destination))
		}
	}
	return nil
}

func isSameFile(a, b int) (bool, error) {
	var first, second unix.Stat_t
	if err := unix.Fstat(a, &first); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &second); err != nil {
		return false, err
	}
	return first.Dev == second.Dev && first.Ino == second.Ino, nil
}

func (l *launch) closeVolumeParts() {
	for _, part := range l.parts {
		part.file.Close()
	}
}
