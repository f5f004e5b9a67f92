package children_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/children"
)

func reaper(t *testing.T) *children.Reaper {
	t.Helper()
	assert.NilError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	r := children.Start()
	t.Cleanup(r.Stop)
	return r
}

func spawn(t *testing.T, r *children.Reaper, script string, stdout *os.File) *children.Child {
	t.Helper()
	child, err := r.Spawn("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, stdout, os.Stderr}})
	assert.NilError(t, err)
	return child
}

func TestEveryStatusArrives(t *testing.T) {
	r := reaper(t)
	var all []*children.Child
	for i := range 50 {
		all = append(all, spawn(t, r, "exit "+strconv.Itoa(i), nil))
	}
	for i, child := range all {
		if status, at := child.Status(); status.ExitStatus() != i || at.IsZero() {
			t.Fatalf("child %d: %v at %v", i, status, at)
		}
	}
	killed := spawn(t, r, "kill -9 $$", nil)
	if status, _ := killed.Status(); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Fatal(status)
	}
	assert.ErrorIs(t, killed.Signal(unix.SIGTERM), os.ErrProcessDone)
}

// orphan leaves a process behind and returns its PID.
func orphan(t *testing.T, r *children.Reaper, script string) int {
	t.Helper()
	reader, writer, err := os.Pipe()
	assert.NilError(t, err)
	defer reader.Close()
	parent := spawn(t, r, "("+script+") >/dev/null & echo $!", writer)
	writer.Close()
	parent.Status()
	line := make([]byte, 20)
	n, err := reader.Read(line)
	assert.NilError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	assert.NilError(t, err)
	return pid
}

func adopt(t *testing.T, r *children.Reaper, pid int) *children.Child {
	t.Helper()
	child, err := r.Adopt(pid)
	assert.NilError(t, err)
	return child
}

func TestAnOrphanIsAdoptedBeforeAndAfterItsEnd(t *testing.T) {
	r := reaper(t)
	for round := range 10 {
		done := r.ExpectAdoption()
		// It ends after its parent, which might otherwise reap it.
		parentEnded := filepath.Join(t.TempDir(), strconv.Itoa(round))
		quick := orphan(t, r, "until test -e "+parentEnded+"; do sleep 0.01; done; exit 3")
		assert.NilError(t, os.WriteFile(parentEnded, nil, 0o600))
		for unix.Kill(quick, 0) == nil {
			runtime.Gosched()
		}
		if status, _ := adopt(t, r, quick).Status(); status.ExitStatus() != 3 {
			t.Fatal(status)
		}
		slow := adopt(t, r, orphan(t, r, "exec sleep 1000"))
		done()
		assert.NilError(t, slow.Signal(unix.SIGKILL))
		if status, _ := slow.Status(); status.Signal() != unix.SIGKILL {
			t.Fatal(status)
		}
	}
}

func TestAStrangersChildIsNotAdopted(t *testing.T) {
	r := reaper(t)
	defer r.ExpectAdoption()()
	if child, err := r.Adopt(1); err == nil {
		t.Fatalf("adopted %d", child.PID())
	}
}

func TestAProgramThatIsMissingIsNotStarted(t *testing.T) {
	_, err := reaper(t).Spawn("/nosuch", []string{"nosuch"}, &os.ProcAttr{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}
