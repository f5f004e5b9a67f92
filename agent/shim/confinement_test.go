package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// seccomp has the features of real profiles: rules on arguments, errors other
// than EPERM, and foreign architectures.
func seccomp() map[string]any {
	allowed := func(action string, more map[string]any, names ...string) map[string]any {
		rule := map[string]any{"names": names, "action": action}
		for key, value := range more {
			rule[key] = value
		}
		return rule
	}
	return map[string]any{
		"defaultAction": "SCMP_ACT_ALLOW",
		"architectures": []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"},
		"syscalls": []any{
			allowed("SCMP_ACT_ERRNO", nil, "mount", "umount2", "unshare", "setns", "keyctl"),
			allowed("SCMP_ACT_ERRNO", map[string]any{"errnoRet": 22}, "sethostname"),
			allowed("SCMP_ACT_ERRNO", map[string]any{"args": []any{
				map[string]any{"index": 0, "value": 0x20000, "valueTwo": 0x20000, "op": "SCMP_CMP_MASKED_EQ"}}}, "personality"),
		},
	}
}

// observe prints everything that the kernel reports about a process's
// confinement, and the results of attempts to leave it. Nothing here may affect
// the machine: some of it runs with every capability.
const observe = `
grep -vE '^(Pid|Tgid|NStgid|NSpid|NSpgid|NSsid|PPid|Vm|Rss|Hugetlb|voluntary|nonvoluntary|Threads|SigQ|FDSize|CoreDumping|THP_|untag|x86_|State|TracerPid|Ngid|Mems_allowed|Cpus_allowed)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup
for each in cgroup ipc mnt net pid uts user; do
	[ "$(readlink /proc/self/ns/$each)" = "$(readlink /proc/1/ns/$each)" ] && echo "$each shared" || echo "$each not shared"
done
awk '{ print "session leader", $1 == $5, $1 == $6, "terminal", $7 }' /proc/$$/stat
stat -L -c '%F %u %g %a' /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; tty; stty -a 2>&1
pwd; umask; id; env | sort; cat /proc/self/attr/current 2>&1
for attempt in 'mount -t tmpfs none /tmp' 'hostname other' 'unshare -m true' 'chroot / true' 'mknod /tmp/device b 8 0; rm -f /tmp/device' 'cat /proc/kcore' 'setarch i386 true' 'kill -0 1' 'renice -n -5 $$'; do
	echo "$attempt: $(sh -c "$attempt" 2>&1 | head -c 200 | sed 's/[0-9]\{2,\}/N/g')"
done
`

func withoutNewPrivileges(config map[string]any) {
	config["process"].(map[string]any)["noNewPrivileges"] = true
}

var containerIDs = regexp.MustCompile(`[0-9a-f]{64}`)

func TestAnExecIsConfinedAsTheRuntimeWouldConfineIt(t *testing.T) {
	limited := func(config map[string]any) {
		process := config["process"].(map[string]any)
		process["rlimits"] = []any{
			map[string]any{"type": "RLIMIT_NOFILE", "soft": 444, "hard": 444},
			map[string]any{"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
		}
		process["oomScoreAdj"] = 77
		process["user"] = map[string]any{"uid": 0, "gid": 0, "additionalGids": []int{0, 10, 11}}
		capabilities := []string{"CAP_CHOWN", "CAP_KILL"}
		process["capabilities"].(map[string]any)["inheritable"] = capabilities
		process["capabilities"].(map[string]any)["ambient"] = capabilities
	}
	configs := map[string]func(map[string]any){
		"plain":                  func(map[string]any) {},
		"limited":                limited,
		"without new privileges": withoutNewPrivileges,
		"with a cgroup namespace": func(config map[string]any) {
			linux := config["linux"].(map[string]any)
			linux["namespaces"] = append(linux["namespaces"].([]map[string]string), map[string]string{"type": "cgroup"})
		},
	}
	processes := map[string]*agentv1.ProcessSpec{
		"as the main process":    {},
		"as another user":        {User: "alice"},
		"as a number":            {User: "4711:50", AdditionalGroups: []string{"root"}},
		"with an environment":    {Env: []string{"HOME=", "A=b", "PATH=/bin:/usr/bin"}, WorkingDir: "/tmp"},
		"without new privileges": {NoNewPrivileges: true},
		"privileged":             {Privileged: true},
		"on a terminal":          {Tty: true, User: "alice", ConsoleSize: &agentv1.ConsoleSize{Height: 20, Width: 60}},
	}
	for configName, change := range configs {
		t.Run(configName, func(t *testing.T) {
			direct := confined(t, change, seccomp())
			runtime := confined(t, func(config map[string]any) {
				// It changes nothing, but makes execs use the runtime.
				config["process"].(map[string]any)["scheduler"] = map[string]any{"policy": "SCHED_OTHER"}
				change(config)
			}, seccomp())
			for name, process := range processes {
				process.Args = []string{"/bin/sh", "-c", observe}
				var seen [2]string
				for i, c := range []*container{direct, runtime} {
					s := c.exec(name, process).finish()
					s.expectExit(0)
					seen[i] = containerIDs.ReplaceAllString(s.stdout.String()+s.stderr.String(), "ID")
				}
				if seen[0] != seen[1] {
					t.Errorf("%s: by the runtime + and directly -:\n%s", name, difference(seen[1], seen[0]))
				}
				if !strings.Contains(seen[0], "Seccomp:\t2") {
					t.Errorf("%s: no filter:\n%s", name, seen[0])
				}
			}
		})
	}
}

// TestAnExecOfAUserWithoutCapabilitiesIsInADirectoryOfRootsAlone compares with
// the runtime, which enters the directory before it switches the user. Where
// processes may trace, it does not take over.
func TestAnExecOfAUserWithoutCapabilitiesIsInADirectoryOfRootsAlone(t *testing.T) {
	needRuntime(t)
	alone := filepath.Join(busyboxRoot(t), "alone")
	must(t, os.Mkdir(alone, 0o700))
	t.Cleanup(func() { os.Remove(alone) })
	for name, change := range map[string]func(process map[string]any){
		"directly":       func(map[string]any) {},
		"by the runtime": func(process map[string]any) { process["scheduler"] = map[string]any{"policy": "SCHED_OTHER"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, func(config map[string]any) {
				process := config["process"].(map[string]any)
				process["user"] = map[string]any{"uid": 1234, "gid": 1235}
				process["capabilities"] = map[string]any{"bounding": []string{"CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"}}
				process["cwd"] = "/alone"
				change(process)
			}, seccomp())
			s := c.exec("a", &agentv1.ProcessSpec{Args: sh("readlink /proc/self/cwd; ls")}).finish()
			s.expectExit(1)
			if s.stdout.String() != "/alone\n" || !strings.Contains(s.stderr.String(), "Permission denied") {
				t.Fatal(s.stdout.String(), s.stderr.String())
			}
		})
	}
}

// confined launches and starts a container with a seccomp filter.
func confined(t *testing.T, change func(map[string]any), filter map[string]any) *container {
	c := launch(t, launchOptions{args: sleeper, config: func(config map[string]any) {
		config["linux"].(map[string]any)["seccomp"] = filter
		change(config)
	}})
	c.mustRun()
	return c
}

func difference(wanted, got string) string {
	var out strings.Builder
	wantedLines, gotLines := strings.Split(wanted, "\n"), strings.Split(got, "\n")
	for i := range max(len(wantedLines), len(gotLines)) {
		var w, g string
		if i < len(wantedLines) {
			w = wantedLines[i]
		}
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if w != g {
			fmt.Fprintf(&out, "+ %s\n- %s\n", w, g)
		}
	}
	return out.String()
}

func TestAnExecHasItsStandardStreamsAndNoOtherDescriptor(t *testing.T) {
	c := confined(t, func(map[string]any) {}, seccomp())
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"ls", "/proc/self/fd"}}).finish()
	s.expectExit(0)
	// The last is the directory itself.
	if got := strings.Join(strings.Fields(s.stdout.String()), " "); got != "0 1 2 3" {
		s = c.exec("f", &agentv1.ProcessSpec{Args: []string{"ls", "-l", "/proc/self/fd"}}).finish()
		t.Fatalf("descriptors %s\n%s", got, s.stdout.String())
	}
}

func TestWhatAnExecHasForNoStreamsIsNotTheMachines(t *testing.T) {
	machine, err := os.Stat(os.DevNull)
	must(t, err)
	for name, change := range map[string]func(map[string]any){
		"directly": func(map[string]any) {}, "by the runtime": func(config map[string]any) {
			config["process"].(map[string]any)["user"] = map[string]any{"uid": 0, "gid": 0, "umask": 0o22}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, change, seccomp())
			s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"/bin/sh", "-c", "stat -L -c '%d %F %a %u %t:%T' /proc/self/fd/0; readlink /proc/self/fd/0"}}).finish()
			s.expectExit(0)
			device, rest, _ := strings.Cut(strings.TrimSpace(s.stdout.String()), " ")
			if rest != "character special file 666 0 1:3\n/dev/null" || device == fmt.Sprint(machine.Sys().(*syscall.Stat_t).Dev) {
				t.Errorf("device %s: %s", device, rest)
			}
		})
	}
}

func TestAnExecTakesNoRuntime(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"plain": func(map[string]any) {}, "without new privileges": withoutNewPrivileges,
	} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, func(config map[string]any) {
				// runc 1.1.5 would now and then raise the first of these to the
				// second.
				config["process"].(map[string]any)["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}}
				change(config)
			}, seccomp())
			// Removed: using it would fail.
			must(t, os.Rename(c.spec.RuntimeRoot, c.spec.RuntimeRoot+".away"))
			s := c.exec("e", &agentv1.ProcessSpec{Args: sh("ulimit -Sn; ulimit -Hn; exit 3")}).finish()
			onTerminal := c.exec("f", &agentv1.ProcessSpec{Args: sh("test -t 0 -a -t 1 -a -t 2 && exit 4"), Tty: true}).finish()
			must(t, os.Rename(c.spec.RuntimeRoot+".away", c.spec.RuntimeRoot))
			s.expectExit(3)
			onTerminal.expectExit(4)
			if got := s.stdout.String(); got != "100\n200\n" {
				t.Fatalf("limits of open files %q", got)
			}
		})
	}
}

// The runtime loads the filter of a process without new privileges last.
func TestAFilterWithoutNewPrivilegesMayForbidWhatMakesAnExec(t *testing.T) {
	for _, action := range []string{"SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"} {
		for _, forbidden := range []string{"capset", "setgroups", "setsid"} {
			t.Run(action+" "+forbidden, func(t *testing.T) {
				filter := map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
					map[string]any{"names": []string{forbidden}, "action": action}}}
				s := confined(t, withoutNewPrivileges, filter).exec("e", &agentv1.ProcessSpec{Args: sh("exit 3"), User: "alice"}).finish()
				s.expectExit(3)
			})
		}
	}
}

// The executable of a running process is busy for writers anyway; the mount
// protects it afterwards.
func TestTheBinaryThatEntersAContainerCannotBeWrittenFromThere(t *testing.T) {
	c := confined(t, func(map[string]any) {}, seccomp())
	// The descriptor from which execs start is the shim's.
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.shim.Process.Pid))
	must(t, err)
	program, err := enterProgram()
	must(t, err)
	own, err := os.Stat(program)
	must(t, err)
	found := false
	for _, link := range links {
		if info, err := os.Stat(link); err != nil || !os.SameFile(info, own) {
			continue
		}
		found = true
		var at unix.Statfs_t
		must(t, unix.Statfs(link, &at))
		assert.Assert(t, at.Flags&unix.ST_RDONLY != 0, "its mount is not read-only")
	}
	assert.Assert(t, found, "the shim has no such descriptor")
}
