package ociruntime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sockerless/sockerless/agent/host/machine"
)

// Probed is a runtime that has run a container on this machine.
type Probed struct {
	Runtime
	Name    string // "runc"
	Version string // "1.1.5"
	Commit  string
}

// candidates in order of preference.
var candidates = []string{"runc", "crun"}

// bundlePrefix begins the names of the probes' containers, and of their bundles.
const bundlePrefix = "probe-"

// outputLimit bounds the wait for processes that hold the output of a runtime that
// has ended.
const outputLimit = time.Second

// Wanted selects the runtime.
type Wanted struct {
	Name    string // or a path; empty: the first candidate that works
	Root    string // --root
	Scratch string // directory for the probe's temporary files, of one probe at a time
	// CgroupOf returns the cgroup of a container with this name.
	CgroupOf func(name string) string
}

// Probe finds a runtime that works here: it runs executable (a static binary)
// with arguments in a container, since some runtimes refuse some cgroup layouts.
// The error gives the reason for each candidate.
func (w Wanted) Probe(ctx context.Context, executable string, arguments ...string) (Probed, error) {
	names := candidates
	if w.Name != "" {
		names = []string{w.Name}
	}
	var failures []error
	for _, name := range names {
		path, err := lookUp(name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		found := Probed{Runtime: Runtime{Path: path, Root: w.Root}, Name: filepath.Base(name)}
		if err := found.readVersion(ctx); err != nil {
			failures = append(failures, err)
			continue
		}
		if err := w.clearAway(ctx, found.Runtime); err != nil {
			slog.Warn("something is left of an earlier search for an OCI runtime", "error", err)
		}
		if err := w.try(ctx, found, executable, arguments); err != nil {
			failures = append(failures, err)
			continue
		}
		return found, nil
	}
	advice := "install runc or crun"
	if w.Name != "" {
		advice = "another may be configured"
	}
	return Probed{}, fmt.Errorf("no OCI runtime works on this machine (%s): %w", advice, errors.Join(failures...))
}

// lookUp searches PATH and, since a service's PATH may be short, the system's
// directories.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if strings.Contains(name, "/") {
		return "", fmt.Errorf("%s cannot be executed: %w", name, err)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin", "/sbin"} {
		if path, lookErr := exec.LookPath(filepath.Join(dir, name)); lookErr == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func (p *Probed) readVersion(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	output, err := exec.CommandContext(ctx, p.Path, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", p.Path, cmp.Or(context.Cause(ctx), err))
	}
	p.parseVersion(string(output))
	if p.Version == "" {
		return fmt.Errorf("%s --version: no version in %q", p.Path, output)
	}
	return nil
}

// parseVersion reads "runc version 1.1.5+ds1" and the line "commit: …".
func (p *Probed) parseVersion(output string) {
	for line := range strings.SplitSeq(output, "\n") {
		// The runtime's own name, however its file is called.
		if name, version, ok := strings.Cut(line, " version "); ok && p.Version == "" {
			p.Name, p.Version = name, strings.TrimSpace(version)
		}
		if commit, ok := strings.CutPrefix(line, "commit: "); ok {
			p.Commit = strings.TrimSpace(commit)
		}
	}
}

// clearAway removes the containers of probes that were killed, with their cgroups.
func (w Wanted) clearAway(ctx context.Context, runtime Runtime) error {
	bundles, err := filepath.Glob(filepath.Join(w.Scratch, bundlePrefix+"*"))
	if err != nil {
		return err
	}
	var failures []error
	for _, bundle := range bundles {
		failures = append(failures, w.remove(ctx, runtime, bundle))
	}
	return errors.Join(failures...)
}

// remove removes the container of a probe with its cgroup, and then its bundle:
// where something is left, the next probe finds it.
func (w Wanted) remove(ctx context.Context, runtime Runtime, bundle string) error {
	id := filepath.Base(bundle)
	if err := runtime.Delete(ctx, id); err != nil {
		return err
	}
	if err := machine.RemoveCgroups(ctx, w.CgroupOf(id)); err != nil {
		return err
	}
	return os.RemoveAll(bundle)
}

// try runs a container that exits at once. Nothing of it is left, not even where
// ctx ends or the runtime cannot remove its cgroup, as one whose processes are
// still ending is busy.
func (w Wanted) try(ctx context.Context, p Probed, executable string, arguments []string) error {
	bundle, err := os.MkdirTemp(w.Scratch, bundlePrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err := w.remove(context.WithoutCancel(ctx), p.Runtime, bundle); err != nil {
			slog.Warn("something is left of the search for an OCI runtime", "error", err)
		}
	}()
	executable, err = filepath.EvalSymlinks(executable)
	if err != nil {
		return err
	}
	id := filepath.Base(bundle)
	config, err := json.Marshal(probeConfig(w.CgroupOf(id), executable, arguments))
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		return err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	run := exec.CommandContext(ctx, p.Path, "--root", p.Root, "run", "--bundle", bundle, id)
	var output bytes.Buffer
	run.Stderr = &output
	run.WaitDelay = outputLimit
	if err := run.Run(); err != nil {
		return fmt.Errorf("%s cannot run a container here: %w: %s", p.Path, cmp.Or(context.Cause(ctx), err), strings.TrimSpace(output.String()))
	}
	return nil
}

// probeConfig asks for namespaces and a cgroup with a limit, as containers do.
func probeConfig(cgroup, executable string, arguments []string) any {
	type object = map[string]any
	namespaces := []object{}
	for _, kind := range []string{"pid", "mount", "ipc", "uts", "network"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	return object{
		"ociVersion": "1.0.2",
		"process":    object{"args": append([]string{"/agent"}, arguments...), "cwd": "/", "user": object{"uid": 0, "gid": 0}},
		"root":       object{"path": "rootfs"},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/agent", "type": "bind", "source": executable, "options": []string{"bind", "ro"}},
		},
		"linux": object{
			"cgroupsPath": cgroup,
			"namespaces":  namespaces,
			"resources":   object{"pids": object{"limit": 100}},
		},
	}
}
