package shim

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// A machine with only version 2 has no other way than the one that waits.
func TestExecsJoinControlGroupsWithoutWaiting(t *testing.T) {
	mounts, err := cgroupMounts()
	if err != nil || mounts["freezer"] == "" {
		t.Skipf("no control groups of version 1: %v", err)
	}
	groups := map[string]string{}
	for _, hierarchy := range []string{"", "pids", "freezer"} {
		if mounts[hierarchy] == "" {
			continue
		}
		group, err := os.MkdirTemp(mounts[hierarchy], "sockerless-test-")
		if err != nil {
			t.Skipf("no control groups can be made here: %v", err)
		}
		t.Cleanup(func() {
			// The kernel may be about to remove a process that was already waited
			// for.
			err := os.Remove(group)
			for end := time.Now().Add(30 * time.Second); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); err = os.Remove(group) {
				time.Sleep(time.Millisecond)
			}
			assert.Check(t, err)
		})
		groups[hierarchy] = group
	}
	sleeper := exec.Command("sleep", "1000")
	assert.NilError(t, sleeper.Start())
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	for _, group := range groups {
		assert.NilError(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(sleeper.Process.Pid)), 0))
	}
	joined, err := cgroupsToJoin(sleeper.Process.Pid)
	assert.NilError(t, err)
	for _, hierarchy := range []string{"pids", "freezer"} {
		if group := groups[hierarchy]; group != "" && !slices.Contains(joined.files, filepath.Join(group, "tasks")) {
			t.Errorf("%s is not joined by its thread: %q", hierarchy, joined.files)
		}
	}
	if joined.waits || slices.ContainsFunc(joined.files, func(name string) bool { return filepath.Base(name) == "cgroup.procs" }) {
		t.Errorf("an exec waits for a move: %q", joined.files)
	}
	if groups[""] == "" {
		return
	}
	show := exec.Command("cat", "/proc/self/cgroup")
	attributes, made, err := joined.attributes()
	assert.NilError(t, err)
	defer made()
	show.SysProcAttr = attributes
	output, err := show.Output()
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
		t.Skipf("no process can be made in a group here: %v", err)
	}
	if wanted := "0::/" + filepath.Base(groups[""]) + "\n"; err != nil || !strings.Contains(string(output), wanted) {
		t.Errorf("%q without %q: %v", output, wanted, err)
	}
}
