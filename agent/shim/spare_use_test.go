package shim_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/shim/enter"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// claimed is a spare that runs a command.
func claimed(t *testing.T, args []string, changes ...func(map[string]any)) *stage {
	t.Helper()
	spare := beginSpare(t, asItIs, changes...)
	spare.claim(args)
	return spare.stage
}

func TestTheProcessThatWaitsHoldsNothingOfTheMachine(t *testing.T) {
	secret := rand.Text()
	t.Setenv("OF_THE_MACHINE", secret)
	spare := beginSpare(t, asItIs)
	pid := spare.ready.PID
	streams := regexp.MustCompile(`^map\[0:/dev/null 1:pipe:\[\d+\] 2:pipe:\[\d+\] 3:pipe:\[\d+\] 5:pipe:\[\d+\]\]$`)
	if descriptors := fmt.Sprint(descriptorsOf(t, pid)); !streams.MatchString(descriptors) {
		t.Errorf("descriptors %s", descriptors)
	}
	if found := remembers(t, pid, []string{secret, spare.spec.Bundle, spare.spec.RuntimeRoot, spare.spec.AgentSocket, spare.spec.Rootfs}); len(found) > 0 {
		t.Errorf("its memory holds %v", found)
	}
	if environment := readFile(t, fmt.Sprintf("/proc/%d/environ", pid)); environment != strings.Join(enter.WaitEnvironment(), "\x00")+"\x00" {
		t.Errorf("environment %q", environment)
	}
	var at unix.Statfs_t
	must(t, unix.Statfs(fmt.Sprintf("/proc/%d/exe", pid), &at))
	if at.Flags&unix.ST_RDONLY == 0 {
		t.Error("its binary is not on a read-only mount")
	}
	for _, link := range []string{"root", "cwd"} {
		got, err := os.Stat(fmt.Sprintf("/proc/%d/%s", pid, link))
		must(t, err)
		wanted, err := os.Stat(spare.merged())
		must(t, err)
		if got.Sys() == nil || got.Mode() != wanted.Mode() || !fileExists(fmt.Sprintf("/proc/%d/%s/bin/busybox", pid, link)) {
			t.Errorf("its %s is not the container's", link)
		}
	}
}

func TestASpareIsExecutedIntoPausedUpdatedAndSignalledAsAnyContainer(t *testing.T) {
	c := claimed(t, sleeper, func(config map[string]any) {
		config["process"].(map[string]any)["env"] = []string{"PATH=/bin", "FROM=main"}
	})
	if got := c.runtimeStatus(c.spec.Runtime); got != "running" {
		t.Errorf("before the start: %s", got)
	}
	events := c.watch()
	c.mustRun()
	inside := c.exec("e", &agentv1.ProcessSpec{Args: sh("env | sort; tr '\\0' ' ' </proc/1/cmdline | head -c 10")}).finish()
	inside.expectExit(0)
	if output := inside.stdout.String(); !strings.Contains(output, "FROM=main\n") || strings.Contains(output, "SOCKERLESS") || !strings.HasSuffix(output, "/bin/sh -c") {
		t.Error(output)
	}
	c.exec("n", &agentv1.ProcessSpec{Args: []string{"nosuch"}}).finish().expectFailure("executable file not found")
	c.exec("t", &agentv1.ProcessSpec{Args: sh("test -t 0"), Tty: true, User: "alice"}).finish().expectExit(0)
	_, err := c.client.Pause(contextFor(t), connect.NewRequest(&agentv1.PauseRequest{}))
	must(t, err)
	if got := c.runtimeStatus(c.spec.Runtime); got != "paused" {
		t.Errorf("paused: %s", got)
	}
	_, err = c.client.Resume(contextFor(t), connect.NewRequest(&agentv1.ResumeRequest{}))
	must(t, err)
	_, err = c.client.Update(contextFor(t), connect.NewRequest(&agentv1.UpdateRequest{OciResources: []byte(`{"memory":{"limit":33554432},"pids":{"limit":77}}`)}))
	must(t, err)
	reading, err := c.oneReading()
	must(t, err)
	if reading.Memory.Limit != 32<<20 || reading.Pids.Limit != 77 || reading.Memory.Usage == 0 {
		t.Error(reading)
	}
	c.signal("", int32(unix.SIGTERM))
	if exit := await(t, events, exitedEvent).GetExited(); exit.Code != 0 || exit.OomKilled {
		t.Error(exit)
	}
	if state := c.recorded(); state.GetExit() == nil || len(state.EndedExecs) != 3 {
		t.Error(state)
	}
}

func TestWantOfMemoryIsToldOfASpare(t *testing.T) {
	c := claimed(t, sh("x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo no"), func(config map[string]any) {
		config["linux"].(map[string]any)["resources"] = map[string]any{"memory": map[string]any{"limit": 32 << 20, "swap": 32 << 20}}
	})
	events := c.watch()
	c.mustRun()
	await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetOom() != nil })
	if exit := await(t, events, exitedEvent).GetExited(); !exit.OomKilled {
		t.Fatal(exit)
	}
}

// A shell function of that size is nothing unusual, and the pipe takes 64 KiB.
func TestASpareTakesALongCommandAndEnvironment(t *testing.T) {
	const each, count = 100_000, 8
	value := strings.Repeat("v", each)
	c := claimed(t, append(sh(`echo $# ${#1} ${#V7}`), "sh", value), func(config map[string]any) {
		env := []string{"PATH=/bin"}
		for n := range count {
			env = append(env, fmt.Sprintf("V%d=%s", n, value))
		}
		config["process"].(map[string]any)["env"] = env
	})
	session := c.step()
	session.expectExit(0)
	if got := session.stdout.String(); got != "1 100000 100000\n" {
		t.Fatal(got)
	}
}

func TestTheInputOfASpareIsItsPrograms(t *testing.T) {
	spare := beginSpare(t, func(spec *shimspec.Spec) { spec.OpenStdin, spec.StdinOnce = true, true })
	spare.claim([]string{"cat"})
	session := spare.attach(&agentv1.OpenAttach{AttachId: "a", Stdin: true})
	session.write([]byte("before the start\n"))
	spare.mustRun("a")
	session.write([]byte("after it\n"))
	session.closeStdin()
	session.finish().expectExit(0)
	if got := session.stdout.String(); got != "before the start\nafter it\n" {
		t.Fatal(got)
	}
}

func TestASparesCommandThatTheRuntimeFindsRunsByTheRuntime(t *testing.T) {
	c := claimed(t, []string{"echo", "found"}, func(config map[string]any) {
		// Relative entries are the runtime's to judge.
		config["process"].(map[string]any)["cwd"] = "/bin"
		config["process"].(map[string]any)["env"] = []string{"PATH=relative:/bin"}
	})
	if session := c.step(); session.stdout.String() != "found\n" {
		t.Fatal(session.stdout.String())
	}
	if left := c.members(); len(left) > 0 {
		t.Fatalf("processes %s are left", left)
	}
}

func TestWithoutTheProgramThatWaitsThereIsNoSpare(t *testing.T) {
	needRuntime(t)
	t.Setenv(enterVariable, "")
	c := start(t, launchOptions{spec: func(spec *shimspec.Spec) { spec.Spare = true }})
	if c.ready.Error == nil || c.ready.Error.Code != connect.CodeFailedPrecondition.String() {
		t.Fatal(c.ready)
	}
}

func TestTheProcessThatWaitsEndsWithItsShim(t *testing.T) {
	spare := beginSpare(t, asItIs)
	spare.ready.Error = &shimspec.ReadinessError{} // its shim is not to end well
	must(t, spare.shim.Process.Kill())
	eventually(t, "the process ends", func() bool { return !fileExists(filepath.Join("/proc", fmt.Sprint(spare.ready.PID))) })
}
