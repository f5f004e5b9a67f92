package children_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
)

func reaper(t *testing.T) *children.Reaper {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := children.Start()
	t.Cleanup(r.Stop)
	return r
}

func spawn(t *testing.T, r *children.Reaper, script string, stdout *os.File) *children.Child {
	t.Helper()
	child, err := r.Spawn("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, stdout, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
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
	if err := killed.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// orphan leaves a process behind and returns its PID.
func orphan(t *testing.T, r *children.Reaper, script string) int {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	parent := spawn(t, r, "("+script+") >/dev/null & echo $!", writer)
	writer.Close()
	parent.Status()
	line := make([]byte, 20)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func adopt(t *testing.T, r *children.Reaper, pid int) *children.Child {
	t.Helper()
	child, err := r.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func TestAnOrphanIsAdoptedBeforeAndAfterItsEnd(t *testing.T) {
	r := reaper(t)
	for round := range 10 {
		done := r.ExpectAdoption()
		// It ends after its parent, which might otherwise reap it.
		parentEnded := filepath.Join(t.TempDir(), strconv.Itoa(round))
		quick := orphan(t, r, "until test -e "+parentEnded+"; do sleep 0.01; done; exit 3")
		if err := os.WriteFile(parentEnded, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for unix.Kill(quick, 0) == nil {
			runtime.Gosched()
		}
		if status, _ := adopt(t, r, quick).Status(); status.ExitStatus() != 3 {
			t.Fatal(status)
		}
		slow := adopt(t, r, orphan(t, r, "exec sleep 1000"))
		done()
		if err := slow.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
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
	if _, err := reaper(t).Spawn("/nosuch", []string{"nosuch"}, &os.ProcAttr{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
