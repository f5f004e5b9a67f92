package shim_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// dockerDefaults are the names of Docker's default capabilities.
var dockerDefaults = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// asOfBuild adds what a build step's configuration has. directory holds the files
// to bind.
func asOfBuild(config map[string]any, directory string) {
	config["process"].(map[string]any)["capabilities"] = map[string]any{
		"bounding": dockerDefaults, "effective": dockerDefaults, "permitted": dockerDefaults,
	}
	config["hostname"] = "step"
	mounts := []map[string]any{
		{"destination": "/proc", "type": "proc", "source": "proc", "options": []string{"nosuid", "noexec", "nodev"}},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
			"options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
		{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []string{"ro", "nosuid", "noexec", "nodev"}},
		{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": []string{"nosuid", "noexec", "nodev"}},
		{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
	}
	for _, name := range nameFiles {
		mounts = append(mounts, map[string]any{
			"destination": "/etc/" + name, "type": "bind", "source": filepath.Join(directory, name), "options": []string{"rbind", "rprivate"},
		})
	}
	config["mounts"] = mounts
	linux := config["linux"].(map[string]any)
	linux["maskedPaths"] = []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/proc/nowhere"}
	linux["readonlyPaths"] = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/proc/nowhere"}
	linux["seccomp"] = seccomp()
}

// stage is a container with successive steps.
type stage struct {
	*container
	directory string
	config    map[string]any
}

var nameFiles = []string{"resolv.conf", "hostname", "hosts"}

// writeFiles rewrites the bound files.
func (s *stage) writeFiles() {
	s.t.Helper()
	for _, name := range nameFiles {
		file := filepath.Join(s.directory, "files", name)
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Fatal(err)
		}
		must(s.t, os.WriteFile(file, []byte("of the step\n"), 0o644))
	}
}

// beginStage launches the first step without starting it.
func beginStage(t *testing.T, args []string, changes ...func(map[string]any)) *stage {
	t.Helper()
	return beginAs(t, func(spec *shimspec.Spec) { spec.Keep = true }, args, changes...)
}

// beginAs launches a container like a step.
func beginAs(t *testing.T, as func(*shimspec.Spec), args []string, changes ...func(map[string]any)) *stage {
	t.Helper()
	needRuntime(t)
	directory, err := os.MkdirTemp("", "skl-")
	must(t, err)
	s := &stage{container: &container{t: t}, directory: directory}
	t.Cleanup(func() {
		_ = unix.Unmount(s.merged(), unix.MNT_DETACH)
		must(t, os.RemoveAll(directory))
	})
	for _, name := range []string{"files", "init/etc"} {
		must(t, os.MkdirAll(filepath.Join(directory, name), 0o755))
	}
	for _, name := range nameFiles {
		must(t, os.WriteFile(filepath.Join(directory, "init/etc", name), nil, 0o644))
	}
	s.writeFiles()
	s.mountRoot(t, 1)
	s.container = launch(t, launchOptions{
		args: args,
		spec: func(spec *shimspec.Spec) {
			spec.Rootfs = s.merged()
			as(spec)
		},
		config: func(config map[string]any) {
			s.config = config
			asOfBuild(config, filepath.Join(directory, "files"))
			for _, change := range changes {
				change(config)
			}
		},
	})
	return s
}

func (s *stage) merged() string { return filepath.Join(s.directory, "merged") }

// upper is the directory of a generation's changes.
func (s *stage) upper(generation uint64) string {
	return filepath.Join(s.directory, fmt.Sprintf("upper%d", generation))
}

func (s *stage) mountRoot(t *testing.T, generation uint64) {
	t.Helper()
	_ = unix.Unmount(s.merged(), unix.MNT_DETACH)
	work := filepath.Join(s.directory, fmt.Sprintf("work%d", generation))
	lower := []string{filepath.Join(s.directory, "init"), busyboxRoot(t)}
	for _, name := range []string{s.upper(generation), work, s.merged()} {
		must(t, os.MkdirAll(name, 0o755))
	}
	for below := uint64(1); below < generation; below++ {
		lower = slices.Insert(lower, 0, s.upper(below))
	}
	must(t, unix.Mount("overlay", s.merged(), "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), s.upper(generation), work)))
}

// prepare does the host process's part for the next step.
func (s *stage) prepare(args []string, changes ...func(map[string]any)) {
	s.t.Helper()
	spec := *s.spec
	spec.Generation++
	s.spec = &spec
	s.mountRoot(s.t.(*testing.T), spec.Generation)
	s.config["process"].(map[string]any)["args"] = args
	for _, change := range changes {
		change(s.config)
	}
	writeJSON(s.t, filepath.Join(spec.Bundle, "config.json"), s.config)
	writeJSON(s.t, filepath.Join(filepath.Dir(spec.ExitRecord), "shim.json"), s.spec)
}

// step runs a prepared step, or the first one, to its end.
func (s *stage) step() *testSession {
	s.t.Helper()
	session, failure := s.attempt()
	if failure != nil {
		s.t.Fatalf("step %d: %s", s.spec.Generation, failure.Message)
	}
	return session.finish()
}

func (s *stage) attempt() (*testSession, *agentv1.StartFailure) {
	s.t.Helper()
	id := fmt.Sprint("a", s.spec.Generation)
	session := s.attach(&agentv1.OpenAttach{AttachId: id})
	response, err := s.client.Start(contextFor(s.t), connect.NewRequest(&agentv1.StartRequest{
		Generation: s.spec.Generation, AwaitAttachIds: []string{id},
	}))
	must(s.t, err)
	return session, response.Msg.GetFailure()
}

// next is prepare and step.
func (s *stage) next(args []string, changes ...func(map[string]any)) *testSession {
	s.t.Helper()
	s.prepare(args, changes...)
	return s.step()
}

// observeAll adds what execs do not have.
const observeAll = observe + `
cat /proc/self/mountinfo | while read id parent device root rest; do echo "mount $root $rest"; done | sort
cat /etc/hosts; hostname; ls -lanR /dev | grep -v '^total'; ls -la /proc/self/fd | wc -l
cat /proc/keys; ls -A / /tmp /etc; cat /proc/sys/kernel/cap_last_cap; echo x 2>&1 >/proc/sys/kernel/printk; cat /proc/net/dev /proc/net/route
stat -c '%n %u %g %a' / /etc /dev /dev/shm /dev/mqueue /dev/pts /dev/null /proc /sys; tr "\\0" " " </proc/1/cmdline | head -c 20
echo "null devices: $(stat -L -c %D:%i /proc/1/fd/0 /dev/null | uniq | wc -l)"
trap; cat /proc/sysvipc/shm /proc/sysvipc/sem; grep -E '^(Sig[BIC]|Shd)' /proc/1/status
`

var keyringLine = regexp.MustCompile(`^[0-9a-f]{8} .{7} .* keyring  `)

// incidental is what differs between any two processes.
var incidental = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9a-f]{64}(\.[A-Z2-7]{26})?`), "ID"},
	{regexp.MustCompile(`(?m)^[0-9a-f]{8} (.{7}) +\d+ perm `), "KEY $1 "},
	{regexp.MustCompile(`(lowerdir|upperdir|workdir)=[^, \n]*`), "$1"},
	{regexp.MustCompile(`/\S*skl-\d+`), "DIRECTORY"},
	{regexp.MustCompile(`master:\d+`), "master:N"},
	{regexp.MustCompile(`[A-Z][a-z]{2} +\d+ \d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`(?m)^( *[0-9]+, *[0-9]+| *\d+) TIME`), "$1"},
}

func (s *stage) withoutIncidentals(session *testSession) string {
	// Other keyrings show too: an ended one disappears a moment later.
	lines := strings.Split(session.stdout.String()+session.stderr.String(), "\n")
	isOthers := func(line string) bool {
		return keyringLine.MatchString(line) && !strings.Contains(line, s.spec.ContainerID)
	}
	text := strings.Join(slices.DeleteFunc(lines, isOthers), "\n")
	for _, each := range incidental {
		text = each.pattern.ReplaceAllString(text, each.with)
	}
	return strings.Join(slices.Compact(strings.Split(text, "\n")), "\n")
}

func TestAStepThatIsEnteredIsConfinedAsTheRuntimeWouldConfineIt(t *testing.T) {
	as := func(user map[string]any) func(map[string]any) {
		return func(config map[string]any) { config["process"].(map[string]any)["user"] = user }
	}
	for name, change := range map[string]func(map[string]any){
		"plain":        func(map[string]any) {},
		"another user": as(map[string]any{"uid": 1234, "gid": 1235, "additionalGids": []int{1235, 50}}),
		"limited": func(config map[string]any) {
			process := config["process"].(map[string]any)
			process["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 444, "hard": 444}}
			process["oomScoreAdj"] = 77
		},
		"without new privileges": withoutNewPrivileges,
		"with a cgroup namespace": func(config map[string]any) {
			linux := config["linux"].(map[string]any)
			linux["namespaces"] = append(linux["namespaces"].([]map[string]string), map[string]string{"type": "cgroup"})
		},
		"in a directory": func(config map[string]any) {
			config["process"].(map[string]any)["cwd"] = "/home"
			config["process"].(map[string]any)["env"] = []string{"PATH=/bin", "A=b", "HOME="}
		},
	} {
		t.Run(name, func(t *testing.T) {
			runtime := beginStage(t, sh("%s", observeAll), change)
			byRuntime := runtime.step()
			byRuntime.expectExit(0)
			stage := beginStage(t, sh("true"), change)
			assert.Assert(t, stage.ready.Keeps, "nothing is kept")
			stage.step().expectExit(0)
			for range 2 {
				entered := stage.next(sh("%s", observeAll))
				entered.expectExit(0)
				wanted, got := runtime.withoutIncidentals(byRuntime), stage.withoutIncidentals(entered)
				if wanted != got {
					t.Errorf("by the runtime + and entered -:\n%s", difference(wanted, got))
				}
				if !strings.Contains(got, "Seccomp:\t2") || !strings.Contains(got, "mount / / ") || !strings.Contains(got, "null devices: 1") || !strings.Contains(got, "keyring   _ses.ID: empty") {
					t.Fatalf("not everything is seen:\n%s", got)
				}
			}
		})
	}
}

// TestAStepOfAnotherUserRunsWhereTheLastOneRan has the steps' capabilities as set
// by the host process: a user other than root has only the bounding set.
func TestAStepOfAnotherUserRunsWhereTheLastOneRan(t *testing.T) {
	as := func(uid int, sets ...string) func(map[string]any) {
		return func(config map[string]any) {
			capabilities := map[string]any{}
			for _, set := range sets {
				capabilities[set] = dockerDefaults
			}
			process := config["process"].(map[string]any)
			process["user"], process["capabilities"] = map[string]any{"uid": uid, "gid": uid}, capabilities
		}
	}
	root, another := as(0, "bounding", "effective", "permitted"), as(1234, "bounding")
	stage := beginStage(t, sh("true"), root)
	stage.step().expectExit(0)
	for _, step := range []struct {
		as     func(map[string]any)
		wanted string
	}{{another, "1234 0"}, {root, "0 a80425fb"}, {another, "1234 0"}} {
		session := stage.next(sh(`echo $(id -u) $(sed -n "s/CapEff:.0*\(.\)/\1/p" /proc/self/status)`), step.as)
		session.expectExit(0)
		if got := strings.TrimSpace(session.stdout.String()); got != step.wanted {
			t.Fatalf("got %s, want %s", got, step.wanted)
		}
	}
}

// leave leaves something everywhere outside its root where a program can write,
// and look prints what it finds.
const (
	leave = `
echo secret >/dev/left; echo secret >/dev/shm/left; echo >/dev/mqueue/left; mkdir /dev/shm/directory; mknod /dev/null2 c 1 3
chmod 600 /dev/null; chown 4711 /dev/zero; rm /dev/full; ln -sf /dev/shm/left /dev/stdout; rm -r /dev/fd; mkdir /dev/fd
echo left >>/etc/hosts; chmod 777 /etc/hostname; chown 4711 /etc/resolv.conf; echo written >/written-by-%[1]s
setsid sleep 1000 >/dev/null 2>&1 & (setsid nc -l -p 8080 >/dev/null 2>&1 &); until grep -q :1F90 /proc/net/tcp*; do sleep 0.01; done
`
	look = `ls -lanR /dev; cat /etc/hosts; ls -lan /etc/hostname /etc/resolv.conf; cat /proc/net/tcp* /proc/net/unix /proc/sysvipc/msg
for each in /proc/[0-9]*; do tr '\0' ' ' <$each/cmdline | head -c 20; echo; done; grep -c . /proc/self/mountinfo`
)

func TestNothingOfAStepButItsChangesIsSeenByTheNext(t *testing.T) {
	fresh := beginStage(t, sh("%s", look))
	seen := fresh.step()
	wanted := fresh.withoutIncidentals(seen)
	stage := beginStage(t, sh(leave, "1"))
	stage.step().expectExit(0)
	for generation := range 2 {
		stage.writeFiles()
		looked := stage.next(sh("%s", look))
		looked.expectExit(0)
		if got := stage.withoutIncidentals(looked); got != wanted {
			t.Fatalf("in a container of its own + and after another step -:\n%s", difference(wanted, got))
		}
		stage.writeFiles()
		stage.next(sh(leave, fmt.Sprint(generation+2))).expectExit(0)
	}
	for generation, wanted := range map[uint64]string{1: "[written-by-1]", 2: "[]", 3: "[written-by-2]", 4: "[]", 5: "[written-by-3]"} {
		entries, err := os.ReadDir(stage.upper(generation))
		must(t, err)
		names := []string{}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if got := fmt.Sprint(names); got != wanted {
			t.Errorf("step %d has changed %s, expected %s", generation, got, wanted)
		}
	}
}

func TestWhatTheFirstStepLeavesInMemoryTakesNoRoomOfTheNext(t *testing.T) {
	stage := beginStage(t, sh("for each in /dev /dev/shm; do dd if=/dev/zero of=$each/left bs=1M count=24; done"))
	stage.step().expectExit(0)
	for range 2 {
		stage.next(sh("true")).expectExit(0)
		for _, usage := range stage.memory() {
			assert.Assert(t, usage <= 16<<20, "the control group has %d bytes", usage)
		}
	}
}

// memory is the memory charged to the container's cgroups.
func (c *container) memory() (usages []int) {
	c.t.Helper()
	for _, name := range []string{"/sys/fs/cgroup/memory/*/%s/memory.usage_in_bytes", "/sys/fs/cgroup/*/%s/memory.current"} {
		found, err := filepath.Glob(fmt.Sprintf(name, c.spec.ContainerID))
		must(c.t, err)
		for _, file := range found {
			content, err := os.ReadFile(file)
			must(c.t, err)
			usage, err := strconv.Atoi(strings.TrimSpace(string(content)))
			must(c.t, err)
			usages = append(usages, usage)
		}
	}
	if len(usages) == 0 {
		c.t.Skip("no control group counts memory")
	}
	return usages
}

// members are the processes in the container's cgroups.
func (c *container) members() (members []string) {
	c.t.Helper()
	groups, err := filepath.Glob("/sys/fs/cgroup/*/sockerless-shim-test/" + c.spec.ContainerID + "/cgroup.procs")
	must(c.t, err)
	unified, err := filepath.Glob("/sys/fs/cgroup/sockerless-shim-test/" + c.spec.ContainerID + "/cgroup.procs")
	must(c.t, err)
	for _, group := range append(groups, unified...) {
		content, err := os.ReadFile(group)
		must(c.t, err)
		members = append(members, strings.Fields(string(content))...)
	}
	if len(groups)+len(unified) == 0 {
		c.t.Fatal("the container has no control groups")
	}
	return members
}

// Go's runtime raises the limit for the program that it starts.
func TestAStepAndAnExecMayOpenAsManyFilesAsTheRuntimesProcess(t *testing.T) {
	var own unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &own))
	lower := unix.Rlimit{Cur: own.Max / 2, Max: own.Max}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lower))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &own)) })
	stage := beginStage(t, sh("ulimit -Sn; ulimit -Hn"))
	wanted := stage.step().stdout.String()
	stage.prepare(sh("ulimit -Sn; ulimit -Hn; echo ready; while :; do sleep 0.01; done"))
	session, failure := stage.attempt()
	assert.Assert(t, failure == nil, failure)
	session.until("ready")
	defer stage.client.Signal(contextFor(t), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(unix.SIGKILL)}))
	inExec := stage.exec("e", &agentv1.ProcessSpec{Args: sh("ulimit -Sn; ulimit -Hn")}).finish().stdout.String()
	if inStep := session.stdout.String(); inStep != wanted+"ready\n" || inExec != wanted {
		t.Fatalf("by the runtime %q, entered %q, in an exec %q", wanted, inStep, inExec)
	}
}

func TestProcessesThatAStepLeavesAreDeadWhenItEnds(t *testing.T) {
	stage := beginStage(t, sh("true"))
	stage.step().expectExit(0)
	for range 3 {
		stage.next(sh("for n in 1 2 3 4 5 6 7 8; do setsid sleep 1000 >/dev/null 2>&1 & done; exit 3")).expectExit(3)
		if left := stage.members(); len(left) > 0 {
			t.Fatalf("processes %s are left", left)
		}
	}
}

func TestAStepIsRecordedLoggedAndSignalledAsAnyRun(t *testing.T) {
	stage := beginStage(t, sh("echo one"))
	events := stage.watch()
	stage.step().expectExit(0)
	stage.next(sh("echo two; exit 7")).expectExit(7)
	if state := stage.recorded(); state.Exit.GetCode() != 7 {
		t.Fatal(state)
	}
	for generation, code := range []int32{0, 7} {
		exited := await(t, events, func(e *agentv1.WatchResponse) bool { return e.GetExited() != nil })
		if exited.Generation != uint64(generation+1) || exited.GetExited().Code != code {
			t.Fatal(exited)
		}
	}
	for signal, code := range map[unix.Signal]int32{unix.SIGTERM: 3, unix.SIGKILL: 137} {
		stage.prepare(sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"))
		session, failure := stage.attempt()
		assert.Assert(t, failure == nil, failure)
		session.until("ready")
		seen := stage.exec(fmt.Sprint("e", signal), &agentv1.ProcessSpec{Args: sh("cat /proc/1/cmdline | tr '\\0' ' ' | head -c 12; echo; test -e /dev/left"), User: "alice"}).finish()
		seen.expectExit(1)
		if seen.stdout.String() != "/bin/sh -c t\n" {
			t.Fatal(seen.stdout.String())
		}
		// The runtime does not know that the container runs.
		stage.exec(fmt.Sprint("n", signal), &agentv1.ProcessSpec{Args: []string{"nothing"}}).finish().expectFailure("executable file not found")
		_, err := stage.client.Signal(contextFor(t), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(signal)}))
		must(t, err)
		session.finish().expectExit(code)
	}
	if state := stage.recorded(); state.Exit.GetCode() != 3 && state.Exit.GetCode() != 137 {
		t.Fatal(state)
	}
}

func (s *testSession) expectFailure(text string) {
	s.t.Helper()
	if s.failure == nil || !strings.Contains(s.failure.Message, text) {
		s.t.Fatalf("exit %v, error %v, expected %q", s.exit, s.failure, text)
	}
}

// The caller then starts another container.
func TestAStepThatCannotBeEnteredHasNotRun(t *testing.T) {
	process := func(config map[string]any) map[string]any { return config["process"].(map[string]any) }
	for name, change := range map[string]func(*stage, map[string]any){
		"another mount": func(_ *stage, config map[string]any) {
			config["mounts"] = append(config["mounts"].([]map[string]any), map[string]any{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
		},
		"other capabilities": func(_ *stage, config map[string]any) {
			process(config)["capabilities"] = map[string]any{"bounding": []string{"CAP_SYS_ADMIN"}}
		},
		"no filter":       func(_ *stage, config map[string]any) { delete(config["linux"].(map[string]any), "seccomp") },
		"other limits":    func(_ *stage, config map[string]any) { process(config)["oomScoreAdj"] = 500 },
		"another host":    func(_ *stage, config map[string]any) { config["hostname"] = "other" },
		"no such program": func(_ *stage, config map[string]any) { process(config)["args"] = []string{"nothing"} },
		"no executable":   func(_ *stage, config map[string]any) { process(config)["args"] = []string{"/bin/notexec"} },
		"no directory":    func(_ *stage, config map[string]any) { process(config)["cwd"] = "/nowhere" },
		"a directory that the joining process holds": func(_ *stage, config map[string]any) { process(config)["cwd"] = "/proc/self/fd/9" },
		"a link for a mount point": func(s *stage, _ map[string]any) {
			must(s.t, os.RemoveAll(filepath.Join(s.merged(), "sys")))
			must(s.t, os.Symlink("tmp", filepath.Join(s.merged(), "sys")))
		},
		"no mount point": func(s *stage, _ map[string]any) { must(s.t, os.RemoveAll(filepath.Join(s.merged(), "dev"))) },
	} {
		t.Run(name, func(t *testing.T) {
			stage := beginStage(t, sh("true"))
			stage.step().expectExit(0)
			stage.prepare(sh("echo ran >/ran"), func(config map[string]any) { change(stage, config) })
			_, failure := stage.attempt()
			if failure == nil || failure.Message == "" {
				t.Fatal("the step has run")
			}
			assert.Assert(t, !fileExists(filepath.Join(stage.upper(2), "ran")), "the step has written")
			if left := stage.members(); len(left) > 0 {
				t.Fatalf("processes %s are left", left)
			}
			if state := stage.recorded(); state.Failure == nil {
				t.Fatal(state)
			}
		})
	}
}

// The test's end makes the shim leave.
func TestAStepThatIsNotPreparedFailsAsItself(t *testing.T) {
	stage := beginStage(t, sh("true"))
	stage.step().expectExit(0)
	next := *stage.spec // without a specification of its own
	next.Generation++
	stage.spec = &next
	if _, failure := stage.attempt(); failure == nil || !strings.Contains(failure.Message, "generation 1 is prepared") {
		t.Fatal(failure)
	}
	if state := stage.recorded(); state.Failure == nil {
		t.Fatal(state)
	}
}

func TestNothingIsKeptOfWhatOnlyTheRuntimeGives(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"more capabilities": func(config map[string]any) {
			capabilities := config["process"].(map[string]any)["capabilities"].(map[string]any)
			capabilities["bounding"] = append(slices.Clone(dockerDefaults), "CAP_SYS_ADMIN")
		},
		"a volume": func(config map[string]any) {
			config["mounts"] = append(config["mounts"].([]map[string]any), map[string]any{
				"destination": "/tmp", "type": "bind", "source": "/tmp", "options": []string{"rbind"}})
		},
		"a read-only root":        func(config map[string]any) { config["root"].(map[string]any)["readonly"] = true },
		"the machine's processes": withoutNamespace("pid"),
		"the machine's memory":    withoutNamespace("ipc"),
		"a parameter of the memory": func(config map[string]any) {
			config["linux"].(map[string]any)["sysctl"] = map[string]string{"kernel.shm_rmid_forced": "1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			stage := beginStage(t, sh("true"), change)
			if stage.ready.Keeps {
				t.Fatal("it is kept")
			}
			stage.step().expectExit(0)
			stage.prepare(sh("true"))
			response, err := stage.client.Start(contextFor(t), connect.NewRequest(&agentv1.StartRequest{Generation: stage.spec.Generation}))
			if err == nil && response.Msg.GetFailure() == nil {
				t.Fatal("the next step has run")
			}
		})
	}
}

func withoutNamespace(kind string) func(map[string]any) {
	return func(config map[string]any) {
		linux := config["linux"].(map[string]any)
		linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]map[string]string), func(n map[string]string) bool { return n["type"] == kind })
	}
}
