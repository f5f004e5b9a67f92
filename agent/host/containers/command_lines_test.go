package containers

import (
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// sleeper is a process that does nothing, as a candidate.
func sleeper(t *testing.T, cloneflags uintptr) string {
	t.Helper()
	command := exec.Command("sleep", "600")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags}
	assert.NilError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return strconv.Itoa(command.Process.Pid)
}

// searched is what a search finds, or a failure if it waits.
func searched(t *testing.T, lines *commandLines, candidates []string) []foundProcess {
	t.Helper()
	found := make(chan []foundProcess, 1)
	go func() { found <- lines.find(func([]byte) bool { return true }, candidates) }()
	select {
	case processes := <-found:
		closeAll(processes)
		return processes
	case <-time.After(30 * time.Second):
		t.Fatal("the search waits")
		return nil
	}
}

// untilFound searches until so many processes are found.
func untilFound(t *testing.T, lines *commandLines, candidates []string, count int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(searched(t, lines, candidates)) != count; {
		assert.Assert(t, !time.Now().After(deadline), "some stay stuck")
	}
}

func TestACommandLineThatCannotBeReadHoldsUpOneSearch(t *testing.T) {
	hung := make(chan struct{})
	stuck := sleeper(t, 0)
	var reads atomic.Int32
	lines := newCommandLines(func(pid int) ([]byte, error) {
		if strconv.Itoa(pid) == stuck {
			reads.Add(1)
			<-hung
		}
		return []byte("command\x00"), nil
	}, 100*time.Millisecond)
	candidates := []string{stuck, strconv.Itoa(os.Getpid()), "self"}
	for range 2 {
		if found := searched(t, lines, candidates); len(found) != 1 || found[0].pid != os.Getpid() {
			t.Errorf("found %v", found)
		}
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("it was read %d times", n)
	}
	close(hung)
	untilFound(t, lines, candidates, 2)
}

func TestSearchesShareTheReadOfAProcess(t *testing.T) {
	slow := make(chan struct{})
	candidates := []string{sleeper(t, 0)}
	var reads atomic.Int32
	lines := newCommandLines(func(int) ([]byte, error) {
		reads.Add(1)
		<-slow
		return nil, nil
	}, time.Minute)
	found := make(chan []foundProcess)
	search := func() { found <- lines.find(func([]byte) bool { return true }, candidates) }
	go search()
	for reads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 4 {
		go search()
	}
	time.Sleep(100 * time.Millisecond) // for each to look
	close(slow)
	for range 5 {
		processes := <-found
		closeAll(processes)
		assert.Check(t, is.Len(processes, 1))
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("it was read %d times", n)
	}
}

func TestAReadOfAnEndedProcessIsNotItsSuccessors(t *testing.T) {
	ended := exec.Command("true")
	assert.NilError(t, ended.Start())
	pidfd, err := unix.PidfdOpen(ended.Process.Pid, 0)
	assert.NilError(t, err)
	defer unix.Close(pidfd)
	assert.NilError(t, ended.Wait())
	lines := newCommandLines(func(int) ([]byte, error) { return []byte("own\x00"), nil }, 100*time.Millisecond)
	lines.pending[os.Getpid()] = &lineRead{pidfd: pidfd, done: make(chan struct{})}
	assert.Check(t, is.Len(searched(t, lines, []string{strconv.Itoa(os.Getpid())}), 1))
}

func TestFewCommandLinesAreReadAtOnce(t *testing.T) {
	hung := make(chan struct{})
	var reads atomic.Int32
	lines := newCommandLines(func(int) ([]byte, error) {
		reads.Add(1)
		<-hung
		return nil, nil
	}, 100*time.Millisecond)
	var candidates []string
	for range 70 {
		candidates = append(candidates, sleeper(t, 0))
	}
	for range 2 {
		assert.Check(t, is.Len(searched(t, lines, candidates), 0))
	}
	if n := reads.Load(); n != 64 {
		t.Errorf("%d are read", n)
	}
	close(hung)
	untilFound(t, lines, candidates, len(candidates))
}

func TestNoCommandLineOfAnotherPIDNamespaceIsRead(t *testing.T) {
	here, elsewhere := sleeper(t, 0), sleeper(t, unix.CLONE_NEWPID)
	lines := newCommandLines(func(pid int) ([]byte, error) {
		assert.Check(t, strconv.Itoa(pid) != elsewhere, "it is read")
		return nil, nil
	}, time.Second)
	found := lines.find(func([]byte) bool { return true }, []string{here, elsewhere})
	defer closeAll(found)
	if len(found) != 1 || strconv.Itoa(found[0].pid) != here {
		t.Errorf("found %v", found)
	}
}
