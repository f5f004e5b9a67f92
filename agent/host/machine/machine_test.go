package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
)

func TestInspectFindsControllers(t *testing.T) {
	features, err := Inspect()
	if err != nil || (features.CgroupVersion != "1" && features.CgroupVersion != "2") || len(features.CgroupControllers) == 0 {
		t.Errorf("%+v, %v", features, err)
	}
}

func TestAppArmorIsWhatTheKernelSays(t *testing.T) {
	for sys, want := range map[string]bool{"apparmor-on": true, "apparmor-off": false, "apparmor-missing": false} {
		if got := hasAppArmor(filepath.Join("testdata", sys)); got != want {
			t.Errorf("%s: %v", sys, got)
		}
	}
}

func TestRemoveCgroupsKillsWhatIsInThem(t *testing.T) {
	features, err := Inspect()
	assert.NilError(t, err)
	root := cgroupRoot
	if features.CgroupVersion == "1" {
		root = filepath.Join(cgroupRoot, "pids")
	}
	name := "sockerless-test-" + strconv.Itoa(os.Getpid())
	nested := filepath.Join(root, name, "nested")
	if err := os.MkdirAll(nested, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	sleeper := exec.Command("sleep", "1000")
	assert.NilError(t, sleeper.Start())
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	assert.NilError(t, os.WriteFile(filepath.Join(nested, "cgroup.procs"), []byte(strconv.Itoa(sleeper.Process.Pid)), 0))
	for range 2 {
		assert.Check(t, RemoveCgroups(t.Context(), "/"+name))
	}
	<-ended
	if status := sleeper.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended by %v", status)
	}
	if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
		t.Error("the cgroup is left")
	}
}
