// Package ociruntime drives the OCI runtime (runc or crun) by its command line,
// as far as the host process needs it: finding it, killing, deleting.
package ociruntime

import (
	"bytes"
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

// A runtime that hangs must not hang us for ever: killing and deleting take
// milliseconds, but `delete --force` polls for ten seconds.
const commandLimit = 20 * time.Second

// How long a container that was killed may take to end, and how often it is looked at.
const (
	endLimit = 5 * time.Second
	endPoll  = 20 * time.Millisecond
	// Processes of one that has ended leave its cgroups at once, or else the runtime
	// has to see to it.
	buryLimit = 100 * time.Millisecond
)

// Runtime is an OCI runtime with the state directory of one instance.
type Runtime struct {
	Path string // executable
	Root string // --root
}

// Knows reports whether the runtime keeps state of the container: it was created
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

// Delete kills what still runs and deletes the container. An unknown container
// is no error. Cgroups of a container whose record is removed here, or whose
// runtime was killed at work, stay: removeCgroups of host/containers takes them.
//
// Where a shim was killed and the machine's PID 1 does not reap, the number of
// the container's init is never free, which `delete --force` waits for: force
// comes last. An init that waits for the processes of its namespace to be reaped
// is not even a zombie; the runtime's record is then removed here.
//
// Mounts that a killed runtime has left in its directory of the container keep that
// directory from being removed: they are taken away before each attempt.
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
	if err == nil { // which --force also answers where it could not remove the directory
		err = fmt.Errorf("%s delete: %s is still there", filepath.Base(r.Path), filepath.Join(r.Root, containerID))
	}
	return err
}

// unmountLeftovers detaches what the runtime mounts in its directory of a
// container: runc, for a moment, its own executable, which it opens read-only
// there before its init leaves the host's file systems.
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

// errDeleteByRuntime: the container has something of which runc alone knows how
// it goes.
var errDeleteByRuntime = errors.New("only the runtime can delete the container")

// bury does what `runc delete` does of a container whose init has ended, without
// a process of the runtime for it: 5 ms of processor time.
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

// runcState is what runc keeps of a container, as far as it is known here.
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

// isPlain: there is nothing to undo but control groups, which are the
// container's own.
func (s runcState) isPlain(containerID string) bool {
	for _, cgroup := range s.Cgroups {
		if filepath.Base(cgroup) != containerID {
			return false
		}
	}
	return len(s.Cgroups) > 0 && s.ResourceClass == "" && len(s.Config.Hooks.Poststop) == 0
}

// hasEnded reports whether the init of a container of runc is past executing
// anything; false if that cannot be known.
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

// isExiting reads /proc/PID/stat: the process is another one than that which
// started then, or is on its way out.
func isExiting(stat string, start uint64) bool {
	// The name, in parentheses, may hold anything; the state follows it as the third field.
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
