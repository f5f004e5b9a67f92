package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// inDirectory makes a directory in the root that containers have.
func inDirectory(t *testing.T, name string, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(busyboxRoot(t), "home", name)
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Chmod(dir, mode))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func putBusybox(t *testing.T, file string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(file, content, mode))
	must(t, os.Chmod(file, mode))
}

func withPath(path string, users ...uint32) func(map[string]any) {
	return func(config map[string]any) {
		process := config["process"].(map[string]any)
		process["env"] = []string{"PATH=" + path}
		for _, user := range users {
			process["user"] = map[string]any{"uid": user, "gid": user}
		}
	}
}

func TestASparesCommandIsTheOneThatTheRuntimeFinds(t *testing.T) {
	putBusybox(t, filepath.Join(inDirectory(t, "private", 0o700), "readlink"), 0o755)
	putBusybox(t, filepath.Join(inDirectory(t, "open", 0o755), "readlink"), 0o700)
	must(t, os.WriteFile(filepath.Join(inDirectory(t, "scripts", 0o755), "tell"), []byte("#!/bin/sh\necho $0\n"), 0o755))
	shadow := inDirectory(t, "shadow", 0o755)
	must(t, os.Mkdir(filepath.Join(shadow, "echo"), 0o755))
	must(t, unix.Mkfifo(filepath.Join(shadow, "true"), 0))
	must(t, unix.Chmod(filepath.Join(shadow, "true"), 0o777))
	must(t, unix.Mknod(filepath.Join(shadow, "id"), unix.S_IFCHR, 1<<8|3))
	must(t, unix.Chmod(filepath.Join(shadow, "id"), 0o777))
	must(t, os.WriteFile(filepath.Join(shadow, "readlink"), nil, 0o644))
	must(t, os.Symlink("loop", filepath.Join(shadow, "loop")))
	const another = 1234
	for name, c := range map[string]struct {
		args   []string
		change func(map[string]any)
	}{
		"in a directory of root's":  {[]string{"readlink", "/proc/self/exe"}, withPath("/home/private:/bin", another)},
		"a file of root's":          {[]string{"readlink", "/proc/self/exe"}, withPath("/home/open:/bin", another)},
		"behind a directory":        {[]string{"echo", "x"}, withPath("/home/shadow:/bin")},
		"behind a pipe":             {[]string{"true", "x"}, withPath("/home/shadow:/bin")},
		"behind a device":           {[]string{"id"}, withPath("/home/shadow:/bin")},
		"behind a file of nobody's": {[]string{"readlink", "/proc/self/exe"}, withPath("/home/shadow:/bin")},
		"behind a loop":             {[]string{"loop"}, withPath("/home/shadow:/bin")},
		"behind a file":             {[]string{"echo", "x"}, withPath("/bin/busybox:/bin")},
		"a slash at the end":        {[]string{"tell"}, withPath("/home/scripts/:/bin")},
		"two slashes":               {[]string{"tell"}, withPath("//home/scripts:/bin")},
		"by the parent":             {[]string{"tell"}, withPath("/bin/../home/scripts:/bin")},
		"by itself":                 {[]string{"tell"}, withPath("/home/./scripts:/bin")},
		"by nothing's parent":       {[]string{"tell"}, withPath("/nowhere/../home/scripts:/bin")},
		"in the root":               {[]string{"tell"}, withPath("/:/home/scripts:/bin")},
		"written in the short way":  {[]string{"tell"}, withPath("/nowhere:/home/scripts:/bin")},
	} {
		t.Run(name, func(t *testing.T) { wantTheSameInASpare(t, c.args, c.change) })
	}
}

func TestACommandWhoseSparesProcessIsKilledRunsByTheRuntime(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the call is x86's")
	}
	wantTheSameInASpare(t, []string{"cat", "/proc/self/limits"}, func(config map[string]any) {
		config["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
			map[string]any{"names": []string{"faccessat"}, "action": "SCMP_ACT_KILL_PROCESS"}}}
	})
}

func TestASparesProcessThatIsHeldUpDoesNotRunTheCommandLater(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	long := func(config map[string]any) { // longer than the pipe
		env := []string{"PATH=/bin"}
		for n := range 4 {
			env = append(env, fmt.Sprintf("V%d=%0100000d", n, 0))
		}
		config["process"].(map[string]any)["env"] = env
	}
	for name, change := range map[string]func(map[string]any){"at the program": func(map[string]any) {}, "at a long environment": long} {
		t.Run(name, func(t *testing.T) {
			spare := beginSpare(t, asItIs, change)
			spare.claim(sh("echo ran >>/ran; sleep 1000"))
			must(t, unix.Kill(spare.ready.PID, unix.SIGSTOP))
			spare.mustRun()
			if err := unix.Kill(spare.ready.PID, unix.SIGCONT); err != unix.ESRCH {
				t.Error("it is still there: ", err)
			}
			ran := filepath.Join(spare.merged(), "ran")
			eventually(t, "the command runs", func() bool { return fileExists(ran) && readFile(t, ran) != "" })
			if content := readFile(t, ran); content != "ran\n" {
				t.Errorf("it ran so often: %q", content)
			}
		})
	}
}

// Relative entries are the runtime's to judge.
func relativePath(config map[string]any) {
	config["process"].(map[string]any)["env"] = []string{"PATH=relative:/bin"}
}

func TestWantOfMemoryIsToldOfAContainerThatIsMadeAnew(t *testing.T) {
	// Later than the last one's group is looked at.
	script := "sleep 2; x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo no; sleep 3"
	c := claimed(t, []string{"sh", "-c", script}, relativePath, func(config map[string]any) {
		config["linux"].(map[string]any)["resources"] = map[string]any{"memory": map[string]any{"limit": 32 << 20, "swap": 32 << 20}}
	})
	events := c.watch()
	c.mustRun()
	await(t, events, func(e *agentv1.WatchResponse) bool {
		if e.GetExited() != nil {
			t.Fatal("its end is told first: ", e.GetExited())
		}
		return e.GetOom() != nil
	})
	if exit := await(t, events, exitedEvent).GetExited(); !exit.OomKilled {
		t.Error(exit)
	}
}

func TestNothingIsHeldOfAProcessWhosePlaceTheRuntimeTakes(t *testing.T) {
	held := func(changes ...func(map[string]any)) (names []string) {
		c := claimed(t, sleep, changes...)
		c.mustRun()
		c.exec("e", &agentv1.ProcessSpec{Args: []string{"true"}}).finish().expectExit(0)
		for _, name := range descriptorsOf(t, c.shim.Process.Pid) {
			for _, kind := range []string{"pidfd", "enter", "eventfd", "inotify", "sockerless-exec"} {
				if strings.Contains(name, kind) {
					names = append(names, kind)
				}
			}
		}
		slices.Sort(names)
		return names
	}
	if kept, anew := held(), held(relativePath); !slices.Equal(kept, anew) || len(kept) < 3 {
		t.Errorf("of a process that waited %q, of one that was made anew %q", kept, anew)
	}
}

func TestAShimDoesNotEndASpareThatIsBeingClaimed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	spare := beginSpare(t, asItIs)
	paths := shimspec.ContainerPaths{Dir: filepath.Dir(spare.spec.ExitRecord)}
	unlock, err := paths.LockSpare(shimspec.Refuse)
	must(t, err)
	waits := fmt.Sprintf("-> FLOCK  ADVISORY  WRITE %d ", spare.shim.Process.Pid)
	eventually(t, "the shim is to end it", func() bool { return strings.Contains(readFile(t, "/proc/locks"), waits) })
	spare.claim(sh("echo ran"))
	unlock()
	if session := spare.step(); session.stdout.String() != "ran\n" {
		t.Error(session.stdout.String())
	}
	if !fileExists(spare.spec.ReadyRecord) {
		t.Error("its readiness is gone")
	}
}

func TestARuntimeThatFailsIsNoReasonNeverToPrepareTheLike(t *testing.T) {
	c := start(t, launchOptions{args: []string{"true"}, spec: func(spec *shimspec.Spec) {
		spec.Spare, spec.RuntimeRoot = true, "/proc/nowhere"
	}})
	if c.ready.Error == nil || c.ready.Error.Code != connect.CodeInternal.String() {
		t.Fatal(c.ready.Error)
	}
}
