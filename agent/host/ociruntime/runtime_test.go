package ociruntime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/machine"
)

func TestVersionsAsRuntimesPrintThem(t *testing.T) {
	for _, c := range []struct{ name, output, version, commit string }{
		{"runc", "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"},
		{"crun", "crun version 1.8.1\ncommit: f8a096be\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +SELINUX\n", "1.8.1", "f8a096be"},
		{"runc", "rubbish\n", "", ""},
	} {
		p := Probed{Name: c.name}
		p.parseVersion(c.output)
		if p.Version != c.version || p.Commit != c.commit {
			t.Errorf("%q: version %q, commit %q", c.output, p.Version, p.Commit)
		}
	}
}

func TestAnInitThatWaitsForItsNamespaceHasEnded(t *testing.T) {
	// As the kernel shows one: it sleeps, flags are 0x40050c.
	const waiting = "164 (a) sh) S 1 164 164 0 -1 4195596 1904 2726 0 0 2 2 2 0 20 0 1 0 2609172 0 0 18446744073709551615 0"
	const living = "164 (sh) S 1 164 164 0 -1 4195584 1904 2726 0 0 2 2 2 0 20 0 1 0 2609172 0 0 18446744073709551615 0"
	for _, c := range []struct {
		stat  string
		start uint64
		ended bool
	}{
		{waiting, 2609172, true},
		{living, 2609172, false},
		{living, 2609171, true}, // the number is another process's
		{"164 (sh) S", 2609172, false},
		{"", 0, false},
	} {
		if ended := isExiting(c.stat, c.start); ended != c.ended {
			t.Errorf("%q: %t", c.stat, ended)
		}
	}
}

func requireRuntime(t *testing.T) string {
	t.Helper()
	path, err := lookUp("runc")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and runc")
	}
	return path
}

func TestAnUnknownContainerIsDeletedAlready(t *testing.T) {
	r := Runtime{Path: requireRuntime(t), Root: t.TempDir()}
	assert.Check(t, r.Kill(t.Context(), "unknown"))
	assert.Check(t, r.Delete(t.Context(), "unknown"))
	// A runtime killed early leaves a directory without a state.
	assert.NilError(t, os.Mkdir(filepath.Join(r.Root, "half"), 0o700))
	if err := r.Delete(t.Context(), "half"); err != nil || r.Knows("half") {
		t.Errorf("%v, known: %t", err, r.Knows("half"))
	}
}

// A runtime killed while it opens its own executable read-only leaves that
// mounted in the container's directory.
func TestAContainerIsDeletedWhereAKilledRuntimeLeftAMount(t *testing.T) {
	r := Runtime{Path: requireRuntime(t), Root: t.TempDir()}
	copied := filepath.Join(r.Root, "half", "runc.4R2jUW")
	assert.NilError(t, errors.Join(os.Mkdir(filepath.Dir(copied), 0o700), os.WriteFile(copied, nil, 0o600)))
	assert.NilError(t, unix.Mount(r.Path, copied, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(copied, unix.MNT_DETACH) })
	if err := r.Delete(t.Context(), "half"); err != nil || r.Knows("half") {
		t.Errorf("%v, known: %t", err, r.Knows("half"))
	}
}

// endedState is runc's record of an ended container with a cgroup that is not
// empty.
func endedState(t *testing.T, id string) (cgroup string, state map[string]any) {
	t.Helper()
	name := "0123abcd-" + id // as the shims' specification names it
	cgroup = filepath.Join("/sys/fs/cgroup/pids", name)
	if _, err := os.Stat(filepath.Dir(cgroup)); err != nil {
		cgroup = filepath.Join("/sys/fs/cgroup", name) // version 2
	}
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	t.Cleanup(func() { os.Remove(cgroup) })
	assert.NilError(t, os.Mkdir(filepath.Join(cgroup, "nested"), 0o755))
	t.Cleanup(func() { os.Remove(filepath.Join(cgroup, "nested")) })
	return cgroup, map[string]any{
		"init_process_pid": os.Getpid(), "init_process_start": 1, // whose number we have by now
		"cgroup_paths": map[string]string{"pids": cgroup},
		"config":       map[string]any{"Hooks": map[string]any{"poststop": nil}},
	}
}

// writeState makes a container known to a runtime that is not installed.
func writeState(t *testing.T, id string, state any) Runtime {
	t.Helper()
	r := Runtime{Path: filepath.Join(t.TempDir(), "runc"), Root: t.TempDir()}
	content, err := json.Marshal(state)
	if err == nil {
		err = os.Mkdir(filepath.Join(r.Root, id), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(r.Root, id, "state.json"), content, 0o600)
	}
	assert.NilError(t, err)
	return r
}

func TestAContainerThatHasEndedIsDeletedWithoutTheRuntime(t *testing.T) {
	id := fmt.Sprintf("sockerless-test-ended-%d", os.Getpid())
	cgroup, state := endedState(t, id)
	r := writeState(t, id, state)
	if err := r.Delete(t.Context(), id); err != nil || r.Knows(id) {
		t.Errorf("%v, known: %t", err, r.Knows(id))
	}
	_, err := os.Lstat(cgroup)
	assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "its cgroup")
}

func TestTheRuntimeDeletesContainersThatItAloneKnows(t *testing.T) {
	id := fmt.Sprintf("sockerless-test-known-%d", os.Getpid())
	cgroup, state := endedState(t, id)
	for what, changes := range map[string]map[string]any{
		"runs":                        {"init_process_pid": os.Getppid(), "init_process_start": startOf(t, os.Getppid())},
		"shares a cgroup":             {"cgroup_paths": map[string]string{"pids": cgroup, "cpu": filepath.Dir(cgroup)}},
		"has no cgroup":               {"cgroup_paths": map[string]string{}},
		"has a resource class":        {"intel_rdt_path": "/sys/fs/resctrl/a"},
		"has something to run at end": {"config": map[string]any{"Hooks": map[string]any{"poststop": []any{map[string]any{"path": "/bin/true"}}}}},
	} {
		changed := maps.Clone(state)
		maps.Copy(changed, changes)
		r := writeState(t, id, changed)
		assert.Check(t, is.ErrorIs(r.bury(t.Context(), id), errDeleteByRuntime), "one that %s", what)
		if _, err := os.Lstat(filepath.Join(cgroup, "nested")); err != nil || !r.Knows(id) {
			t.Errorf("one that %s: %v, known: %t", what, err, r.Knows(id))
		}
	}
}

// startOf is a process's start, in clock ticks since the boot.
func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	assert.NilError(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	started, err := strconv.ParseUint(fields[19], 10, 64)
	assert.NilError(t, err)
	return started
}

func TestAProbeClearsAwayWhatAKilledOneHasLeft(t *testing.T) {
	requireRuntime(t)
	program, err := os.Executable()
	assert.NilError(t, err)
	scratch := t.TempDir()
	root := filepath.Join(scratch, "runc")
	wanted := Wanted{Root: root, Scratch: scratch, CgroupOf: func(name string) string { return "/sockerless/" + name }}
	id := "probe-killed-" + strconv.Itoa(os.Getpid())
	bundle := filepath.Join(scratch, id)
	assert.NilError(t, os.MkdirAll(filepath.Join(bundle, "rootfs"), 0o755))
	config, err := json.Marshal(probeConfig(wanted.CgroupOf(id), program, nil))
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600))
	runc, err := lookUp("runc")
	if err != nil {
		t.Skip(err)
	}
	assert.NilError(t, exec.Command(runc, "--root", root, "create", "--bundle", bundle, id).Run())
	t.Cleanup(func() {
		_ = Runtime{Path: runc, Root: root}.Delete(context.Background(), id)
		_ = machine.RemoveCgroups(context.Background(), wanted.CgroupOf(id))
	})
	left := func() []string {
		var found []string
		for _, pattern := range []string{bundle, filepath.Join(root, id), "/sys/fs/cgroup/sockerless/" + id, "/sys/fs/cgroup/*/sockerless/" + id} {
			matches, _ := filepath.Glob(pattern)
			found = append(found, matches...)
		}
		return found
	}
	if len(left()) < 3 {
		t.Fatalf("no cgroup of it is found: %v", left())
	}
	_, err = wanted.Probe(t.Context(), program, "-test.run=^$")
	assert.Check(t, err)
	assert.Check(t, is.Len(left(), 0), "left")
}

// A runtime may be killed at work, or fail to remove a cgroup whose processes are
// still ending.
func TestAProbeLeavesNoCgroup(t *testing.T) {
	requireRuntime(t)
	for _, c := range []struct{ name, end string }{
		{"whose context ends", "exec sleep 1000"},
		{"whose runtime leaves a busy one", "exit 0"},
		{"whose runtime fails", "exit 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			scratch := t.TempDir()
			groups := "/sys/fs/cgroup/pids"
			if _, err := os.Stat(groups); err != nil {
				groups = "/sys/fs/cgroup" // version 2
			}
			group := fmt.Sprintf("/sockerless-test-probe-%d-%s", os.Getpid(), filepath.Base(scratch))
			script := fmt.Sprintf(`#!/bin/sh
if [ "$1" = --version ]; then echo runc version 1; exit; fi
[ "$3" = run ] || exit 0
sleep 1000 >&- 2>&- &
mkdir %[1]s && echo $! >%[1]s/cgroup.procs && touch %[2]s/busy
%[3]s
`, groups+group, scratch, c.end)
			runtime := filepath.Join(scratch, "runtime")
			assert.NilError(t, os.WriteFile(runtime, []byte(script), 0o700))
			t.Cleanup(func() { _ = machine.RemoveCgroups(context.Background(), group) })
			over := errors.New("its time is over")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if c.end == "exec sleep 1000" {
				go func() {
					for ctx.Err() == nil {
						if _, err := os.Lstat(filepath.Join(scratch, "busy")); err == nil {
							cancel(over)
						}
						time.Sleep(time.Millisecond)
					}
				}()
			}
			wanted := Wanted{Name: runtime, Root: filepath.Join(scratch, "root"), Scratch: scratch, CgroupOf: func(string) string { return group }}
			_, err := wanted.Probe(ctx, runtime)
			if (err == nil) != (c.end == "exit 0") || ctx.Err() != nil && !errors.Is(err, over) {
				t.Error(err)
			}
			_, err = os.Lstat(filepath.Join(scratch, "busy"))
			assert.NilError(t, err)
			_, err = os.Lstat(groups + group)
			assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "its cgroup")
			left, _ := filepath.Glob(filepath.Join(scratch, bundlePrefix+"*"))
			assert.Check(t, is.Len(left, 0), "left behind")
		})
	}
}

func TestProbeRunsAContainer(t *testing.T) {
	requireRuntime(t)
	program, err := os.Executable() // this test, as static as the agent
	assert.NilError(t, err)
	scratch := t.TempDir()
	root := filepath.Join(scratch, "runc")
	wanted := Wanted{Root: root, Scratch: scratch, CgroupOf: func(name string) string { return "/sockerless/" + name }}
	found, err := wanted.Probe(t.Context(), program, "-test.run=^$")
	if err != nil || found.Version == "" || found.Root != root {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = wanted.Probe(t.Context(), program, "-test.unknown")
	if err == nil || !strings.Contains(err.Error(), "cannot run a container here") || !strings.Contains(err.Error(), "install runc or crun") {
		t.Errorf("a container that fails: %v", err)
	}
	wanted.Name = "/no/such/runtime"
	if _, err = wanted.Probe(t.Context(), program, "-test.run=^$"); err == nil || !strings.Contains(err.Error(), "/no/such/runtime") {
		t.Errorf("a runtime that is missing: %v", err)
	}
	wanted.Name, _ = lookUp("runc")
	if found, err = wanted.Probe(t.Context(), program, "-test.run=^$"); err != nil || found.Name != "runc" {
		t.Errorf("by path: %+v, %v", found, err)
	}
	left, _ := filepath.Glob(filepath.Join(scratch, "*", "*"))
	assert.Check(t, is.Len(left, 0), "left behind")
}
