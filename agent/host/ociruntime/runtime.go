// Package ociruntime drives the OCI runtime (runc or crun) by its command line,
// as far as the host process needs it: to find it, and to kill and delete
// containers.
package ociruntime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sockerless/sockerless/agent/host/machine"
	"github.com/sockerless/sockerless/agent/host/mounts"
)

// commandLimit keeps a hanging runtime from hanging us: killing and deleting take
// milliseconds, but `delete --force` polls for ten seconds.
const commandLimit = 20 * time.Second

// Limit and interval of the wait for a killed container's end.
const (
	endLimit = 5 * time.Second
	endPoll  = 20 * time.Millisecond
	// The processes of an ended container leave its cgroups within this time, or
	// the runtime has to remove them.
	buryLimit = 100 * time.Millisecond
)

// Runtime is an OCI runtime with the state directory of one instance.
type Runtime struct {
	Path string // executable
	Root string // --root
}

// Knows reports whether the runtime has a record of the container: it was created
// and not deleted.
func (r Runtime) Knows(containerID string) bool {
	_, err := os.Lstat(filepath.Join(r.Root, containerID))
	return err == nil
}

// Kill sends SIGKILL to the container's init. A stopped container is not an
// error.
func (r Runtime) Kill(ctx context.Context, containerID string) error {
	err := r.run(ctx, "kill", containerID, "KILL")
	if err != nil && (strings.Contains(err.Error(), "not running") || strings.Contains(err.Error(), "does not exist") ||
		strings.Contains(err.Error(), "No such process") || strings.Contains(err.Error(), "process already finished")) {
		return nil
	}
	return err
}

// Delete kills what still runs and deletes the container. An unknown container is
// not an error. The cgroups of a container whose record is removed here, or whose
// runtime was killed at work, stay for removeCgroups of host/containers.
//
// If a shim was killed and the machine's PID 1 does not reap, the PID of the
// container's init is never released, which `delete --force` waits for: force
// comes last. An init that waits for its namespace's processes to be reaped is
// not even a zombie; then this function removes the runtime's record.
//
// Mounts that a killed runtime left in its directory of the container prevent the
// directory's removal: they are unmounted before each attempt.
func (r Runtime) Delete(ctx context.Context, containerID string) error {
	remove := func(flags ...string) error {
		if err := r.unmountLeftovers(containerID); err != nil {
			return err
		}
		return r.run(ctx, append(append([]string{"delete"}, flags...), containerID)...)
	}
	if !r.Knows(containerID) || r.bury(ctx, containerID) == nil || remove() == nil || !r.Knows(containerID) {
		return nil
	}
	if err := r.Kill(ctx, containerID); err != nil {
		return err
	}
	for deadline := time.Now().Add(endLimit); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(endPoll) {
		if remove() == nil || !r.Knows(containerID) {
			return nil
		}
		if r.hasEnded(containerID) {
			return os.RemoveAll(filepath.Join(r.Root, containerID))
		}
	}
	err := remove("--force")
	if !r.Knows(containerID) {
		return nil
	}
	if err == nil { // returned by --force even if it could not remove the directory
		err = fmt.Errorf("%s delete: %s is still there", filepath.Base(r.Path), filepath.Join(r.Root, containerID))
	}
	return err
}

// unmountLeftovers detaches the runtime's mounts in its directory of a container:
// runc briefly mounts its own executable there, read-only, before its init leaves
// the host's file systems.
func (r Runtime) unmountLeftovers(containerID string) error {
	dir := filepath.Join(r.Root, containerID)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if err := mounts.Unmount(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// errDeleteByRuntime means that only runc knows how to remove part of the
// container.
var errDeleteByRuntime = errors.New("only the runtime can delete the container")

// bury does what `runc delete` does for a container whose init has ended, without
// a process of the runtime, which costs 5 ms of processor time.
func (r Runtime) bury(ctx context.Context, containerID string) error {
	state, err := r.state(containerID)
	if err != nil {
		return err
	}
	if filepath.Base(r.Path) != "runc" || !state.hasEnded() || !state.isPlain(containerID) {
		return errDeleteByRuntime
	}
	ctx, cancel := context.WithTimeout(ctx, buryLimit)
	defer cancel()
	for _, cgroup := range state.Cgroups {
		if err := machine.RemoveCgroup(ctx, cgroup); err != nil {
			return err
		}
	}
	if err := r.unmountLeftovers(containerID); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(r.Root, containerID))
}

// runcState is the part of runc's record that is used here.
type runcState struct {
	PID           int               `json:"init_process_pid"`
	Start         uint64            `json:"init_process_start"` // in clock ticks since the boot
	Cgroups       map[string]string `json:"cgroup_paths"`
	ResourceClass string            `json:"intel_rdt_path"`
	Config        struct {
		Hooks struct {
			Poststop []json.RawMessage `json:"poststop"`
		}
	} `json:"config"`
}

func (r Runtime) state(containerID string) (state runcState, err error) {
	content, err := os.ReadFile(filepath.Join(r.Root, containerID, "state.json"))
	if err == nil {
		err = json.Unmarshal(content, &state)
	}
	if err == nil && state.PID <= 0 {
		err = errors.New("the runtime keeps no process of the container")
	}
	return state, err
}

// isPlain reports whether there is nothing to undo but the container's own
// cgroups, whose names end in its ID.
func (s runcState) isPlain(containerID string) bool {
	for _, cgroup := range s.Cgroups {
		if !strings.HasSuffix(cgroup, containerID) {
			return false
		}
	}
	return len(s.Cgroups) > 0 && s.ResourceClass == "" && len(s.Config.Hooks.Poststop) == 0
}

// hasEnded reports whether the init of a runc container can no longer execute
// anything; false if unknown.
func (r Runtime) hasEnded(containerID string) bool {
	state, err := r.state(containerID)
	return err == nil && state.hasEnded()
}

func (s runcState) hasEnded() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	return isExiting(string(stat), s.Start)
}

// exiting is PF_EXITING of <linux/sched.h>.
const exiting = 0x4

// isExiting parses /proc/PID/stat: it reports whether the process is exiting, or
// another one than the one that started at start.
func isExiting(stat string, start uint64) bool {
	// The name, in parentheses, may hold anything; the state follows it as the
	// third field.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const flags, startTime = 9 - 3, 22 - 3
	if len(fields) <= startTime {
		return false
	}
	started, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return false
	}
	set, err := strconv.ParseUint(fields[flags], 10, 64)
	return started != start || err == nil && set&exiting != 0
}

// limited ends a runtime's command after commandLimit, with a cause that says so.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, commandLimit, fmt.Errorf("no end within %s", commandLimit))
}

func (r Runtime) run(ctx context.Context, arguments ...string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	command := exec.CommandContext(ctx, r.Path, append([]string{"--root", r.Root}, arguments...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Run(); err != nil {
		err = cmp.Or(context.Cause(ctx), err)
		if message := strings.TrimSpace(stderr.String()); message != "" {
			err = errors.New(message)
		}
		return fmt.Errorf("%s %s: %w", filepath.Base(r.Path), strings.Join(arguments, " "), err)
	}
	return nil
}
