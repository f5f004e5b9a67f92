package containers

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/descriptors"
)

// donor is another container whose namespaces a launch joins. A pidfd identifies
// its process, since the PID may be reused.
type donor struct {
	id           string
	pid          int
	pidfd        int
	sharedMemory string
}

// namespacePath is the path of its namespace while it runs.
func (d *donor) namespacePath(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", d.pid, kind) }

func notRunning(id string) error {
	return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("container %s is not running", id))
}

// openDonor finds the first process of a running container. FAILED_PRECONDITION:
// it does not run.
func (l *launch) openDonor(id string) (*donor, error) {
	if id == "" {
		return nil, nil
	}
	paths, err := l.Containers.paths(id)
	if err != nil {
		return nil, err
	}
	owner, err := readLaunched(paths)
	if err != nil {
		return nil, err
	}
	if !owner.runs() || owner.ready.PID == 0 {
		return nil, notRunning(id)
	}
	if err := owner.requireWhole(paths); err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(owner.ready.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, notRunning(id)
	}
	if err != nil {
		return nil, fmt.Errorf("hold the process of container %s: %w", id, err)
	}
	found := &donor{id: id, pid: owner.ready.PID, pidfd: pidfd, sharedMemory: owner.spec.SharedMemory}
	l.donors = append(l.donors, found)
	// A child of the shim belongs to this container: it was read after the open.
	if parent, err := parentOf(found.pid); err != nil || parent != owner.ready.ShimPID {
		return nil, notRunning(id)
	}
	return found, nil
}

// parentOf reads proc(5)'s stat, whose second field is a name in parentheses.
func parentOf(pid int) (parent int, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var state string
	_, err = fmt.Sscan(string(content[bytes.LastIndexByte(content, ')')+1:]), &state, &parent)
	return parent, err
}

// requireDonors checks that the donors still run once the container is created:
// the runtime has opened their namespaces by path, which leads elsewhere once the
// process has ended.
func (l *launch) requireDonors() error {
	for _, d := range l.donors {
		ended, err := descriptors.Readable(0, d.pidfd)
		if err != nil {
			return fmt.Errorf("look after the process of container %s: %w", d.id, err)
		}
		if ended {
			return notRunning(d.id)
		}
	}
	return nil
}

func (l *launch) closeDonors() {
	for _, d := range l.donors {
		unix.Close(d.pidfd)
	}
}

// joinNamespaces returns the paths of the donors' namespaces by type.
func (l *launch) joinNamespaces() (map[string]string, error) {
	joined := map[string]string{}
	if l.spec.NetworkNamespace != "" {
		joined["network"] = l.spec.NetworkNamespace
	}
	pid, err := l.openDonor(l.request.PidContainerId)
	if err != nil {
		return nil, err
	}
	if pid != nil {
		joined["pid"] = pid.namespacePath("pid")
	}
	ipc, err := l.openDonor(l.request.IpcContainerId)
	if err != nil {
		return nil, err
	}
	if ipc != nil {
		joined["ipc"] = ipc.namespacePath("ipc")
		if l.spec.SharedMemory, err = sharedMemoryOf(ipc); err != nil {
			return nil, err
		}
	}
	return joined, nil
}
