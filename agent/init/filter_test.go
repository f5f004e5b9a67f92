package containerinit_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// denying is a profile that forbids only two calls.
func denying() *agentv1.SeccompProfile {
	unsupported := uint32(unix.ENOTSUP)
	return &agentv1.SeccompProfile{
		DefaultAction: "SCMP_ACT_ALLOW",
		Architectures: []string{"SCMP_ARCH_X86", "SCMP_ARCH_ARM"},
		Rules: []*agentv1.SeccompRule{
			{Names: []string{"mkdir", "mkdirat"}, Action: "SCMP_ACT_ERRNO"},
			{Names: []string{"chmod", "fchmodat", "fchmodat2"}, Action: "SCMP_ACT_ERRNO", ErrnoRet: &unsupported},
		},
	}
}

func filtered(profile *agentv1.SeccompProfile, args ...string) *agentv1.ProcessSpec {
	process := nobody(args...)
	process.NoNewPrivileges, process.Seccomp = true, profile
	return process
}

const denied = "operation not permitted operation not supported\n"

func TestTheMainProcessIsUnderItsFilter(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	client := k.client()
	c := attach(t, client, "a")
	process := filtered(denying(), "probe", "try")
	process.User = "root"
	start(t, client, &agentv1.StartRequest{Process: process, AwaitAttachIds: []string{"a"}})
	if code := c.exit(); c.stdout.String() != denied || code != 0 {
		t.Errorf("it said %q and %q, code %d", c.stdout.String(), c.stderr.String(), code)
	}
}

func TestExecsAndHealthChecksAreUnderTheFilterOfTheMainProcess(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	start(t, client, &agentv1.StartRequest{Process: filtered(denying(), "probe", "forever"), HealthCheck: &agentv1.HealthCheck{
		Args: []string{"probe", "try"}, IntervalNs: uint64(10 * time.Millisecond), TimeoutNs: uint64(time.Minute)}})
	for _, user := range []string{"", "root"} {
		if out, code := run(t, client, "exec as "+user, &agentv1.ProcessSpec{Args: []string{"probe", "try"}, User: user}); out != denied || code != 0 {
			t.Errorf("an exec by %q said %q, code %d", user, out, code)
		}
	}
	out, _ := run(t, client, "who", &agentv1.ProcessSpec{Args: []string{"probe", "who"}})
	platform, err := os.ReadFile("/proc/" + strconv.Itoa(k.pid()) + "/status")
	must(t, err)
	filters, _ := strconv.Atoi(facts(strings.ReplaceAll(string(platform), ":\t", "="))["Seccomp_filters"])
	expect(t, facts(out), map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": strconv.Itoa(filters + 1)})
	for watch.Receive() {
		if health := watch.Msg().GetHealth(); health != nil {
			if string(health.Output) != denied {
				t.Errorf("a health check said %q", health.Output)
			}
			return
		}
	}
	t.Error(watch.Err())
}

// TestAFilterMayForbidAllThatAProgramDoesNotDo: after it has loaded the filter
// the agent needs no permission of its own.
func TestAFilterMayForbidAllThatAProgramDoesNotDo(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	k := startTask(t, taskOptions{arguments: none})
	client := k.client()
	c := attach(t, client, "a")
	process := filtered(&agentv1.SeccompProfile{
		DefaultAction: "SCMP_ACT_KILL_PROCESS",
		Rules: []*agentv1.SeccompRule{{Action: "SCMP_ACT_ALLOW", Names: strings.Fields(`
			execve brk arch_prctl set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom mprotect mmap
			munmap newfstatat prctl getuid geteuid getgid getegid setuid setgid write exit_group`)}},
	}, "busybox", "echo", "calm")
	start(t, client, &agentv1.StartRequest{Process: process, AwaitAttachIds: []string{"a"}})
	if code := c.exit(); c.stdout.String() != "calm\n" || code != 0 {
		t.Errorf("it said %q and %q, code %d", c.stdout.String(), c.stderr.String(), code)
	}
}

func TestAFilterLeavesTheLimitsAsThePlatformSetThem(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	k := startTask(t, taskOptions{})
	startForever(t, k, filtered(denying()))
	out, code := run(t, k.client(), "limits", &agentv1.ProcessSpec{Args: []string{"busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"}})
	if out != "1234\n2345\n" || code != 0 {
		t.Errorf("limits %q, code %d", out, code)
	}
}

func TestAProfileThatCannotHoldMakesTheStartFail(t *testing.T) {
	t.Parallel()
	unprivileged := func(change func(*agentv1.ProcessSpec)) *agentv1.ProcessSpec {
		process := filtered(denying(), "probe", "forever")
		change(process)
		return process
	}
	for words, process := range map[string]*agentv1.ProcessSpec{
		"needs no_new_privileges":        unprivileged(func(p *agentv1.ProcessSpec) { p.NoNewPrivileges = false }),
		"string A is not a valid action": unprivileged(func(p *agentv1.ProcessSpec) { p.Seccomp.DefaultAction = "A" }),
		`"/probe": operation not permitted`: unprivileged(func(p *agentv1.ProcessSpec) {
			p.Args = []string{"/probe", "forever"}
			p.Seccomp.Rules = []*agentv1.SeccompRule{{Names: []string{"execve"}, Action: "SCMP_ACT_ERRNO"}}
		}),
	} {
		k := startTask(t, taskOptions{arguments: none})
		if failure := start(t, k.client(), &agentv1.StartRequest{Process: process}).GetFailure(); !strings.Contains(failure.GetMessage(), words) {
			t.Errorf("instead of %q: %v", words, failure)
		}
	}
}
