package containers

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// rootRecord is rootfs.json: the parts of the container's file system. Create
// writes it, and a build's next step with other layers.
type rootRecord struct {
	Version int      `json:"version"`
	Layers  []string `json:"layers"` // diff IDs, bottom first
	Mounts  []mount  `json:"mounts,omitempty"`
	// StateDir has the volumes among the mounts' sources; empty: by an earlier version.
	StateDir string `json:"state_dir,omitempty"`
	// ReadOnly: only mounts can be written.
	ReadOnly bool `json:"read_only,omitempty"`
}

// mount is a directory or file of the machine, or an image, mounted in a
// container.
type mount struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	ReadOnly    bool   `json:"read_only,omitempty"`
	// Instead of Source: an image's diff IDs, bottom first, and the path in it.
	Layers  []string `json:"layers,omitempty"`
	Subpath string   `json:"subpath,omitempty"`
	// Links on the way to Subpath are resolved inside the image.
	SubpathInImage bool `json:"subpath_in_image,omitempty"`
}

const rootRecordVersion = 1

func rootRecordPath(paths shimspec.ContainerPaths) string {
	return filepath.Join(paths.Dir, "rootfs.json")
}

// readRootRecord distinguishes a missing container from one with a damaged
// record. An empty record, as a crash of the machine leaves it, counts as
// missing.
func readRootRecord(paths shimspec.ContainerPaths) (record rootRecord, err error) {
	id := filepath.Base(paths.Dir)
	whole, err := jsonfile.Read(rootRecordPath(paths), &record)
	if err != nil || whole {
		record.moveTo(stateDirOf(paths))
		return record, err
	}
	if info, err := os.Lstat(rootRecordPath(paths)); err == nil && info.Size() > 0 {
		return record, fmt.Errorf("the record of the files of container %s is damaged: %s", id, rootRecordPath(paths))
	}
	return record, connect.NewError(connect.CodeNotFound, fmt.Errorf("no such container: %s", id))
}

// moveTo has sources in a state directory that was moved be where it is now.
func (r *rootRecord) moveTo(stateDir string) {
	if r.StateDir == "" || r.StateDir == stateDir {
		return
	}
	for i, m := range r.Mounts {
		if below, ours := strings.CutPrefix(m.Source, r.StateDir+"/"); ours {
			r.Mounts[i].Source = filepath.Join(stateDir, below)
		}
	}
	r.StateDir = stateDir
}

func stateDirOf(paths shimspec.ContainerPaths) string {
	return filepath.Dir(filepath.Dir(paths.Dir))
}

// launched is the state of a container's last launch.
type launched struct {
	spec  shimspec.Spec       // zero: never launched
	ready shimspec.Readiness  // zero: not ready, or released
	exit  shimspec.ExitRecord // zero: none of this generation
	begun shimspec.Begun      // zero: its process has not executed the command
	alive bool                // the shim listens on its socket
	// The record of a running container is damaged: spec holds only what is
	// needed to reach it.
	damaged bool
	child   int // the shim's number, where it is our child and not reaped; 0: it may be anybody's
}

func (l *launched) exited() bool { return l.exit.Generation != 0 }

func (l *launched) runs() bool { return l.alive && !l.exited() }

func readLaunched(paths shimspec.ContainerPaths) (*launched, error) {
	var l launched
	alive, err := answers(paths.AgentSocket()) // before the records: a shim that leaves has written them by then
	if err != nil {
		return nil, err
	}
	whole, err := jsonfile.Read(paths.Spec(), &l.spec)
	if err != nil {
		return nil, err
	}
	if _, err := jsonfile.Read(paths.ExitRecord(), &l.exit); err != nil {
		return nil, err
	}
	if !l.exit.IsWhole() {
		slog.Warn("a damaged record is not believed", "path", paths.ExitRecord())
		l.exit = shimspec.ExitRecord{}
	}
	if _, err := jsonfile.Read(paths.ReadyRecord(), &l.ready); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(paths.Spec()); !whole && err == nil {
		l.damaged = l.ready.Generation != 0
		l.spec = shimspec.Spec{Generation: l.ready.Generation, AgentSocket: paths.AgentSocket(), Keep: l.ready.Keeps}
	}
	if l.spec.Generation == 0 { // the last launch failed: the one before counts
		l.spec.Generation, l.ready = l.exit.Generation, shimspec.Readiness{}
		return &l, nil
	}
	if l.exit.Generation != l.spec.Generation {
		l.exit = shimspec.ExitRecord{}
	}
	if l.ready.Generation != l.spec.Generation {
		l.ready = shimspec.Readiness{}
	}
	if _, err := jsonfile.Read(paths.BegunRecord(), &l.begun); err != nil {
		return nil, err
	}
	if l.begun.Generation != l.spec.Generation {
		l.begun = shimspec.Begun{}
	}
	l.alive = alive
	if l.alive && l.begun.Generation != 0 && l.ready.Generation == 0 {
		l.ready.Generation = l.spec.Generation // its record is damaged: what has begun was ready
	}
	return &l, nil
}

// requireWhole refuses a running container with a damaged record, for calls that
// need more than to reach it.
func (l *launched) requireWhole(paths shimspec.ContainerPaths) error {
	if l.damaged {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("the record of the container's launch is damaged, until it is started anew: %s", paths.Spec()))
	}
	return nil
}

// answers reports whether a process listens on the socket: without a listener the
// kernel refuses connections. An error says nothing about that.
func answers(socket string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); {
	case err == nil, errors.Is(err, unix.EAGAIN): // EAGAIN: its backlog is full
		return true, nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, &os.PathError{Op: "connect", Path: socket, Err: err}
	}
}

// mayAnswer is answers, or true where that is not known.
func mayAnswer(socket string) bool {
	does, err := answers(socket)
	return does || err != nil
}

// listen creates the agent socket that a shim inherits.
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
