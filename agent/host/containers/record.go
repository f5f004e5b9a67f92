package containers

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// rootRecord is rootfs.json: what the container's file system is made of,
// written by Create.
type rootRecord struct {
	Version int      `json:"version"`
	Layers  []string `json:"layers"` // diff IDs, bottom first
	Mounts  []mount  `json:"mounts,omitempty"`
}

// mount is a directory or file of the machine, or an image, inside a container.
type mount struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	ReadOnly    bool   `json:"read_only,omitempty"`
	// In place of Source: an image, by diff IDs, bottom first, and what of it.
	Layers  []string `json:"layers,omitempty"`
	Subpath string   `json:"subpath,omitempty"`
}

const rootRecordVersion = 1

func rootRecordPath(paths shimspec.ContainerPaths) string {
	return filepath.Join(paths.Dir, "rootfs.json")
}

// readJSON answers false where the file is missing, or is not whole: a crash of
// the machine can leave that of one that was not synced.
func readJSON(path string, value any) (bool, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(content, value); err != nil {
		slog.Warn("a damaged record is not believed", "path", path, "error", err)
		return false, nil
	}
	return true, nil
}

// writeJSON replaces the file in one step.
func writeJSON(path string, value any) error { return replaceJSON(path, value, false) }

// writeDurableJSON is writeJSON of what must survive a crash of the machine.
func writeDurableJSON(path string, value any) error { return replaceJSON(path, value, true) }

func replaceJSON(path string, value any, durable bool) (err error) {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil && durable {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// launched is what is known of a container's last launch.
type launched struct {
	spec  shimspec.Spec       // zero: never launched
	ready shimspec.Readiness  // zero: not ready, or released
	exit  shimspec.ExitRecord // zero: none of this generation
	alive bool                // the shim answers on its socket
}

func (l *launched) exited() bool { return l.exit.Generation != 0 }

func readLaunched(paths shimspec.ContainerPaths) (*launched, error) {
	var l launched
	if _, err := readJSON(paths.Spec(), &l.spec); err != nil {
		return nil, err
	}
	if _, err := readJSON(paths.ExitRecord(), &l.exit); err != nil {
		return nil, err
	}
	if l.spec.Generation == 0 { // the last launch failed: the one before counts
		l.spec.Generation = l.exit.Generation
		return &l, nil
	}
	if l.exit.Generation != l.spec.Generation {
		l.exit = shimspec.ExitRecord{}
	}
	if _, err := readJSON(paths.ReadyRecord(), &l.ready); err != nil {
		return nil, err
	}
	if l.ready.Generation != l.spec.Generation {
		l.ready = shimspec.Readiness{}
	}
	l.alive = answers(paths.AgentSocket())
	return &l, nil
}

// answers tells whether a process listens on the socket: the kernel refuses
// connections to one whose last listener is gone.
func answers(socket string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	return err == nil || errors.Is(err, unix.EAGAIN) // EAGAIN: its backlog is full
}

// listen makes the agent socket that a shim inherits.
func listen(socket string) (*os.File, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, err
	}
	return listener.File()
}
