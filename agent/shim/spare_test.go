package shim_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/shim"
	"github.com/sockerless/sockerless/agent/shim/enter"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// spare is a container whose command is to come.
type spare struct {
	*stage
	process map[string]any // config.json's, as an ordinary one has it
}

func (s *spare) configFile() string { return filepath.Join(s.spec.Bundle, "config.json") }

// beginSpare prepares one. change is as of an ordinary container.
func beginSpare(t *testing.T, as func(*shimspec.Spec), changes ...func(map[string]any)) *spare {
	t.Helper()
	s := &spare{}
	s.stage = beginAs(t, func(spec *shimspec.Spec) {
		spec.Spare = true
		as(spec)
	}, nil, append(changes, func(config map[string]any) {
		s.process = config["process"].(map[string]any)
		waiting := map[string]any{}
		for name, value := range s.process {
			waiting[name] = value
		}
		waiting["args"], waiting["env"] = []string{enter.WaitProgram}, enter.WaitEnvironment()
		config["process"] = waiting
	})...)
	return s
}

// claim does what the host process does for a launch.
func (s *spare) claim(args []string) {
	s.t.Helper()
	s.process["args"], s.config["process"] = args, s.process
	writeJSON(s.t, s.configFile(), s.config)
	s.spec.Spare = false
	writeJSON(s.t, filepath.Join(filepath.Dir(s.spec.ExitRecord), "shim.json"), s.spec)
}

func asItIs(*shimspec.Spec) {}

// ofSpares are configurations that a spare may have.
func ofSpares(t *testing.T) map[string]func(map[string]any) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the profiles are for x86")
	}
	process := func(config map[string]any) map[string]any { return config["process"].(map[string]any) }
	linux := func(config map[string]any) map[string]any { return config["linux"].(map[string]any) }
	capabilities := func(names ...string) func(map[string]any) {
		return func(config map[string]any) {
			process(config)["capabilities"] = map[string]any{"bounding": names, "effective": names, "permitted": names}
		}
	}
	_, profile := dockerProfile(t)
	return map[string]func(map[string]any){
		"plain":                 func(map[string]any) {},
		"with Docker's profile": func(config map[string]any) { linux(config)["seccomp"] = profile },
		"with Docker's profile, without new privileges": func(config map[string]any) {
			linux(config)["seccomp"] = profile
			withoutNewPrivileges(config)
		},
		"another user": func(config map[string]any) {
			process(config)["user"] = map[string]any{"uid": 1234, "gid": 1235, "additionalGids": []int{1235, 50}}
			process(config)["capabilities"] = map[string]any{"bounding": dockerDefaults}
		},
		"another user with inherited capabilities": func(config map[string]any) {
			process(config)["user"] = map[string]any{"uid": 1234, "gid": 1235}
			names := []string{"CAP_CHOWN", "CAP_NET_RAW"}
			process(config)["capabilities"] = map[string]any{
				"bounding": dockerDefaults, "effective": names, "permitted": names, "inheritable": names, "ambient": names,
			}
		},
		"limited": func(config map[string]any) {
			process(config)["rlimits"] = []any{
				map[string]any{"type": "RLIMIT_NOFILE", "soft": 44, "hard": 444}, map[string]any{"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
				map[string]any{"type": "RLIMIT_STACK", "soft": 1 << 22, "hard": 1 << 23}, map[string]any{"type": "RLIMIT_CPU", "soft": 60, "hard": 90},
			}
			process(config)["oomScoreAdj"] = 77
			linux(config)["resources"] = map[string]any{
				"memory": map[string]any{"limit": 64 << 20}, "pids": map[string]any{"limit": 20}, "cpu": map[string]any{"shares": 512},
			}
		},
		"without new privileges": withoutNewPrivileges,
		"without new privileges as another user": func(config map[string]any) {
			withoutNewPrivileges(config)
			process(config)["user"] = map[string]any{"uid": 1234, "gid": 1235}
			process(config)["capabilities"] = map[string]any{"bounding": dockerDefaults}
		},
		"with a cgroup namespace": func(config map[string]any) {
			linux(config)["namespaces"] = append(linux(config)["namespaces"].([]map[string]string), map[string]string{"type": "cgroup"})
		},
		"in a directory": func(config map[string]any) {
			process(config)["cwd"] = "/home"
			process(config)["env"] = []string{"A=a", "PATH=/bin", "A=b", "HOME=", "B= = "}
		},
		"with a read-only root":  func(config map[string]any) { config["root"].(map[string]any)["readonly"] = true },
		"without capabilities":   capabilities(),
		"with more capabilities": capabilities(append(slices.Clone(dockerDefaults), "CAP_SYS_PTRACE", "CAP_NET_ADMIN")...),
		"unconfined":             func(config map[string]any) { delete(linux(config), "seccomp") },
		"scheduled": func(config map[string]any) {
			process(config)["scheduler"] = map[string]any{"policy": "SCHED_BATCH", "nice": 3}
		},
	}
}

func TestASparesProgramIsConfinedAsTheRuntimeWouldConfineIt(t *testing.T) {
	for name, change := range ofSpares(t) {
		t.Run(name, func(t *testing.T) {
			ordinary := beginAs(t, asItIs, sh("%s", observeAll), change)
			byRuntime := ordinary.step()
			byRuntime.expectExit(0)
			spare := beginSpare(t, asItIs, change)
			spare.claim(sh("%s", observeAll))
			entered := spare.step()
			entered.expectExit(0)
			wanted, got := ordinary.withoutIncidentals(byRuntime), spare.withoutIncidentals(entered)
			if wanted != got {
				t.Errorf("by the runtime + and in a spare -:\n%s", difference(wanted, got))
			}
			if spare.ready.PID == 0 || !strings.Contains(got, "mount / / ") || !strings.Contains(got, "keyring   _ses.ID: empty") {
				t.Fatalf("not everything is seen:\n%s", got)
			}
		})
	}
}

// ofTheMoment differs between any two processes, or two looks at one.
var ofTheMoment = regexp.MustCompile(`(?m)^(Pid|Tgid|NStgid|NSpid|NSpgid|NSsid|PPid|Vm\w+|Rss\w+|voluntary_ctxt_switches|nonvoluntary_ctxt_switches|SigQ|State|Mems_allowed\w*|Cpus_allowed\w*):.*\n`)

// seenFromTheMachine is what the kernel tells of a container's main process.
func (s *stage) seenFromTheMachine() string {
	s.t.Helper()
	pid := s.ready.PID
	var seen strings.Builder
	for _, name := range []string{
		"status", "limits", "environ", "cmdline", "cgroup", "oom_score_adj", "attr/current", "attr/exec", "coredump_filter", "timerslack_ns",
		"personality", "loginuid", "sessionid", "uid_map", "setgroups", "timers",
	} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		fmt.Fprintf(&seen, "%s: %s%v\n", name, strings.ReplaceAll(string(content), "\x00", "\n"), err != nil)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(s.t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	fmt.Fprintln(&seen, "group, session", fields[2] == fmt.Sprint(pid), fields[3] == fmt.Sprint(pid))
	fmt.Fprintln(&seen, "terminal, priority, nice, threads, signal, rt_priority, policy", fields[4], fields[15], fields[16], fields[17], fields[35], fields[37], fields[38])
	fmt.Fprintln(&seen, "its own child", fields[1] == fmt.Sprint(s.shim.Process.Pid))
	descriptors := descriptorsOf(s.t.(*testing.T), pid)
	for _, number := range slices.Sorted(maps.Keys(descriptors)) {
		flags, _, _ := strings.Cut(readFile(s.t, fmt.Sprintf("/proc/%d/fdinfo/%d", pid, number)), "mnt_id")
		fmt.Fprintln(&seen, "descriptor", number > 2, regexp.MustCompile(`\d+`).ReplaceAllString(descriptors[number], "N"), flags)
	}
	owner, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid))
	must(s.t, err)
	fmt.Fprintln(&seen, "dumpable", owner.Sys().(*syscall.Stat_t).Uid)
	filter, err := shim.SeccompFilterOf(pid)
	fmt.Fprintf(&seen, "filter %x %v\n", filter, err)
	text := ofTheMoment.ReplaceAllString(seen.String(), "")
	for _, each := range incidental {
		text = each.pattern.ReplaceAllString(text, each.with)
	}
	return text
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	must(t, err)
	return string(content)
}

// sleep changes nothing of itself.
var sleep = []string{"sleep", "1000"}

func TestASparesProcessIsOneOfTheRuntimesToTheMachine(t *testing.T) {
	for name, change := range ofSpares(t) {
		for _, stdin := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", stdin), func(t *testing.T) {
				as := func(spec *shimspec.Spec) { spec.OpenStdin = stdin }
				ordinary := beginAs(t, as, sleep, change)
				ordinary.mustRun()
				spare := beginSpare(t, as, change)
				spare.claim(sleep)
				spare.mustRun()
				wanted, got := ordinary.seenFromTheMachine(), spare.seenFromTheMachine()
				if wanted != got {
					t.Errorf("by the runtime + and in a spare -:\n%s", difference(wanted, got))
				}
				if strings.Contains(got, "descriptor true") || !strings.Contains(got, "Threads:\t1\n") {
					t.Error(got)
				}
			})
		}
	}
}

func TestACommandThatASpareCannotExecuteFailsAsAnyStart(t *testing.T) {
	root := busyboxRoot(t)
	for name, content := range map[string]string{
		"nothing": "", "text": "text\n", "script": "#!/bin/sh\necho ran\n", "of-nobody": "#!/nowhere\n", "of-a-directory": "#!/etc\n",
	} {
		file := filepath.Join(root, "home", name)
		must(t, os.WriteFile(file, []byte(content), 0o755))
		t.Cleanup(func() { os.Remove(file) })
	}
	for _, args := range [][]string{
		{"nosuch"}, {"/nosuch"}, {"/bin/nosuch/x"}, {"./nosuch"}, {"notexec"}, {"/bin/notexec"}, {"/etc"}, {"etc"}, {"/home/nothing"},
		{"/home/text"}, {"/home/of-nobody"}, {"/home/of-a-directory"}, {"/home/script"}, {"home/script"}, {""}, {"/dev/null"},
		{"true", strings.Repeat("x", 1<<18)}, {"/bin/echo", strings.Repeat("long ", 1<<14)}, {strings.Repeat("x", 300)}, {"/bin/sh/sh"},
	} {
		t.Run(fmt.Sprintf("%.20s %d", args[0], len(args)), func(t *testing.T) {
			wantTheSameInASpare(t, args, func(map[string]any) {})
		})
	}
}

// wantTheSameInASpare runs a command to its end, by the runtime and in a spare.
func wantTheSameInASpare(t *testing.T, args []string, change func(config map[string]any)) {
	t.Helper()
	seen := func(s *stage) string {
		session := s.attach(&agentv1.OpenAttach{AttachId: "a"})
		response, err := s.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{Generation: 1, AwaitAttachIds: []string{"a"}}))
		must(t, err)
		session.finish()
		return fmt.Sprintf("failure %d %q, exit %d, stdout %q, stderr %q\nrecorded %d %d",
			response.Msg.GetFailure().GetExitCode(), response.Msg.GetFailure().GetMessage(), session.exit.GetCode(),
			session.stdout.String(), session.stderr.String(), s.recorded().Failure.GetExitCode(), s.recorded().Exit.GetCode())
	}
	wanted := seen(beginAs(t, asItIs, args, change))
	spare := beginSpare(t, asItIs, change)
	spare.claim(args)
	if got := seen(spare.stage); got != wanted {
		t.Errorf("by the runtime\n%s\nand in a spare\n%s", wanted, got)
	}
}
