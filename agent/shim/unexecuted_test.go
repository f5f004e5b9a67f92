package shim_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/exechold"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func descriptorsOf(t *testing.T, pid int) map[int]string {
	t.Helper()
	directory := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(directory)
	must(t, err)
	found := map[int]string{}
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		must(t, err)
		found[number], _ = os.Readlink(filepath.Join(directory, entry.Name()))
	}
	return found
}

// remembers returns which of the texts are in a process's memory.
func remembers(t *testing.T, pid int, texts []string) []string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer memory.Close()
	var found []string
	for line := range strings.Lines(string(maps)) {
		var start, end int64
		var access string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &access); err != nil || access[0] != 'r' || strings.Contains(line, "[v") || end-start > 1<<30 {
			continue
		}
		content, _ := io.ReadAll(io.NewSectionReader(memory, start, end-start))
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) && !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	return found
}

func copyOfBusybox(t *testing.T) (name string) {
	t.Helper()
	root := busyboxRoot(t)
	content, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	must(t, err)
	name = filepath.Join(root, "home/true")
	must(t, os.WriteFile(name, content, 0o755))
	t.Cleanup(func() { os.Remove(name) })
	return name
}

func TestAProcessThatIsNotYetTheExecsProgramHoldsNothingButWhatThatGets(t *testing.T) {
	secret := rand.Text()
	t.Setenv("OF_THE_MACHINE", secret)
	file := copyOfBusybox(t)
	c := confined(t, func(map[string]any) {}, seccomp())
	hold, err := exechold.Executions(file)
	must(t, err)
	defer hold.End()
	processes := map[string]*agentv1.ProcessSpec{
		"as root": {}, "as another user": {User: "alice"}, "on a terminal": {Tty: true}, "on another user's terminal": {Tty: true, User: "alice"},
	}
	streams := map[bool]*regexp.Regexp{
		false: regexp.MustCompile(`^map\[0:/dev/null 1:pipe:\[\d+\] 2:pipe:\[\d+\]\]$`),
		true:  regexp.MustCompile(`^map\[0:/dev/pts/0 1:/dev/pts/0 2:/dev/pts/0\]$`),
	}
	for name, process := range processes {
		t.Run(name, func(t *testing.T) {
			process.Args, process.WorkingDir = []string{"/home/true"}, "/tmp"
			s := c.exec(name, process)
			must(t, hold.Next(limit, func(pid int) {
				if descriptors := fmt.Sprint(descriptorsOf(t, pid)); !streams[process.Tty].MatchString(descriptors) {
					t.Errorf("descriptors %s", descriptors)
				}
				if found := remembers(t, pid, []string{secret, c.spec.Bundle, c.spec.RuntimeRoot, c.spec.AgentSocket, c.spec.Rootfs}); len(found) > 0 {
					t.Errorf("its memory holds %v", found)
				}
				if environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || bytes.Contains(environment, []byte(secret)) {
					t.Errorf("environment %q, %v", environment, err)
				}
				for link, own := range map[string]string{"root": "root", "cwd": "root/tmp"} {
					got, err := os.Stat(fmt.Sprintf("/proc/%d/%s", pid, link))
					must(t, err)
					wanted, err := os.Stat(fmt.Sprintf("/proc/%d/%s", c.ready.PID, own))
					must(t, err)
					assert.Check(t, os.SameFile(got, wanted), "its %s is not the container's", link)
				}
				if file, err := os.OpenFile(fmt.Sprintf("/proc/%d/exe", pid), os.O_WRONLY, 0); err == nil {
					file.Close()
					t.Error("its binary can be written to")
				}
				assert.Check(t, !exechold.Accessible(pid), "root without the right to trace gets at what it has open")
			}))
			s.finish().expectExit(0)
		})
	}
}

func TestTheRuntimesExecIsGivenTheStandardStreamsAndNoOtherDescriptor(t *testing.T) {
	file := copyOfBusybox(t)
	c := confined(t, func(config map[string]any) {
		// It changes nothing, but makes execs use the runtime.
		config["process"].(map[string]any)["scheduler"] = map[string]any{"policy": "SCHED_OTHER"}
	}, seccomp())
	hold, err := exechold.Executions(file)
	must(t, err)
	defer hold.End()
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"/home/true"}, Tty: true})
	must(t, hold.Next(limit, func(pid int) {
		for number, target := range descriptorsOf(t, pid) {
			// Those above are the runtime's own: its pipes to itself and its event loop.
			if number > 2 && !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "socket:") {
				t.Errorf("descriptor %d is %s", number, target)
			}
		}
	}))
	s.finish().expectExit(0)
}

// A descriptor of the machine would be a way out (CVE-2024-21626).
func TestADescriptorIsNoWorkingDirectory(t *testing.T) {
	ours := confined(t, func(map[string]any) {}, seccomp())
	runtimes := confined(t, func(config map[string]any) {
		config["process"].(map[string]any)["scheduler"] = map[string]any{"policy": "SCHED_OTHER"}
	}, seccomp())
	for _, c := range []*container{ours, runtimes} {
		for _, fd := range []int{0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 64} {
			id := fmt.Sprint("in ", fd)
			s := c.exec(id, &agentv1.ProcessSpec{Args: []string{"ls"}, WorkingDir: fmt.Sprintf("/proc/self/fd/%d", fd)}).finish()
			if s.failure == nil {
				t.Errorf("it ran in descriptor %d and saw %q", fd, s.stdout.String())
			}
		}
	}
}
