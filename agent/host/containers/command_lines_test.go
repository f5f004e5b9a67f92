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
)

// sleeper is a process that does nothing, as a candidate.
func sleeper(t *testing.T, cloneflags uintptr) string {
	t.Helper()
	command := exec.Command("sleep", "600")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return strconv.Itoa(command.Process.Pid)
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
	search := func() {
		t.Helper()
		searched := make(chan []foundProcess, 1)
		go func() { searched <- lines.find(func([]byte) bool { return true }, candidates) }()
		select {
		case found := <-searched:
			defer closeAll(found)
			if len(found) != 1 || found[0].pid != os.Getpid() {
				t.Errorf("found %v", found)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the search waits")
		}
	}
	search()
	search()
	if n := reads.Load(); n != 1 {
		t.Errorf("it was read %d times", n)
	}
	close(hung)
	for deadline := time.Now().Add(10 * time.Second); lines.isStuck(mustNumber(t, stuck)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays stuck")
		}
	}
	if found := lines.find(func([]byte) bool { return true }, candidates); len(found) != 2 {
		t.Errorf("found %v", found)
	} else {
		closeAll(found)
	}
}

func mustNumber(t *testing.T, text string) int {
	t.Helper()
	number, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

func TestNoCommandLineOfAnotherPIDNamespaceIsRead(t *testing.T) {
	here, elsewhere := sleeper(t, 0), sleeper(t, unix.CLONE_NEWPID)
	lines := newCommandLines(func(pid int) ([]byte, error) {
		if strconv.Itoa(pid) == elsewhere {
			t.Error("it is read")
		}
		return nil, nil
	}, time.Second)
	found := lines.find(func([]byte) bool { return true }, []string{here, elsewhere})
	defer closeAll(found)
	if len(found) != 1 || strconv.Itoa(found[0].pid) != here {
		t.Errorf("found %v", found)
	}
}
