package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	x86_64  = 0xc000003e
	i386    = 0x40000003
	aarch64 = 0xc00000b7
	arm     = 0x40000028
)

// ask compiles for a current kernel and evaluates.
func ask(t *testing.T, own *profile, goarch string, asked question) uint32 {
	t.Helper()
	return askOn(t, own.message(), goarch, "6.1.0-13-amd64", asked)
}

func askOn(t *testing.T, own *agentv1.SeccompProfile, goarch, release string, asked question) uint32 {
	t.Helper()
	filter, err := Compile(own, goarch, release)
	must(t, err)
	return asked.to(t, machineFor(t, filter.Instructions))
}

func errno(of uint32) *uint32 { return &of }

func TestActionsAreTheKernels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		errno *uint32
		want  uint32
	}{
		{"SCMP_ACT_KILL", nil, 0}, {"SCMP_ACT_KILL_THREAD", nil, 0}, {"SCMP_ACT_KILL_PROCESS", nil, 0x80000000},
		{"SCMP_ACT_TRAP", nil, 0x30000}, {"SCMP_ACT_ERRNO", nil, 0x50001}, {"SCMP_ACT_ERRNO", errno(38), 0x50026},
		{"SCMP_ACT_ERRNO", errno(0), 0x50000}, {"SCMP_ACT_TRACE", nil, 0x7ff00001}, {"SCMP_ACT_TRACE", errno(7), 0x7ff00007},
		{"SCMP_ACT_LOG", nil, 0x7ffc0000}, {"SCMP_ACT_ALLOW", errno(5), 0x7fff0000},
	} {
		asRule := &profile{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []rule{{Names: []string{"mkdir"}, Action: c.name, ErrnoRet: c.errno}}}
		if got := ask(t, asRule, "amd64", question{audit: x86_64, number: 83}); got != c.want {
			t.Errorf("%s is %#x instead of %#x", c.name, got, c.want)
		}
		asDefault := &profile{DefaultAction: c.name, DefaultErrnoRet: c.errno}
		if got := ask(t, asDefault, "amd64", question{audit: x86_64, number: 83}); got != c.want {
			t.Errorf("%s as the default is %#x instead of %#x", c.name, got, c.want)
		}
	}
}

func TestNewCallsDoNotExistUnderAListOfWhatIsAllowed(t *testing.T) {
	t.Parallel()
	const enosys = 0x50026
	listed := []rule{{Names: []string{"read", "openat", "no_such_call", "socket"}, Action: "SCMP_ACT_ALLOW"}}
	for _, c := range []struct {
		name, action  string
		architectures []string
		asked         question
		want          uint32
	}{
		{"above the last", "SCMP_ACT_ERRNO", nil, question{audit: x86_64, number: 258}, enosys},
		{"below it", "SCMP_ACT_ERRNO", nil, question{audit: x86_64, number: 83}, 0x50001},
		{"where the rest kills", "SCMP_ACT_KILL", nil, question{audit: x86_64, number: 258}, enosys},
		{"where the rest is allowed", "SCMP_ACT_LOG", nil, question{audit: x86_64, number: 258}, 0x7ffc0000},
		{"where it is traced", "SCMP_ACT_TRACE", nil, question{audit: x86_64, number: 258}, 0x7ff00001},
		{"of x86", "SCMP_ACT_ERRNO", []string{"SCMP_ARCH_X86"}, question{audit: i386, number: 296}, enosys},
		{"of x86, whose sockets do not count", "SCMP_ACT_ERRNO", []string{"SCMP_ARCH_X86"}, question{audit: i386, number: 359}, enosys},
		{"of x32", "SCMP_ACT_ERRNO", []string{"SCMP_ARCH_X32"}, question{audit: x86_64, number: x32Bit + 258}, enosys},
	} {
		own := &profile{DefaultAction: c.action, Architectures: c.architectures, Syscalls: listed}
		if got := ask(t, own, "amd64", c.asked); got != c.want {
			t.Errorf("%s: %#x instead of %#x", c.name, got, c.want)
		}
	}
}

func TestAnArchitectureThatIsNotNamedKills(t *testing.T) {
	t.Parallel()
	open := &profile{DefaultAction: "SCMP_ACT_ALLOW", Architectures: []string{"SCMP_ARCH_MIPS"}}
	for _, asked := range []question{{audit: i386}, {audit: x86_64, number: x32Bit}, {audit: 8}} {
		if got := ask(t, open, "amd64", asked); got != retKillThread {
			t.Errorf("%v: %#x", asked, got)
		}
	}
	for _, asked := range []question{{audit: x86_64}, {audit: x86_64, number: 0xffffffff}} {
		if got := ask(t, open, "amd64", asked); got != retAllow {
			t.Errorf("%v: %#x", asked, got)
		}
	}
	if got := ask(t, open, "arm64", question{audit: aarch64, number: x32Bit}); got != retAllow {
		t.Errorf("a number that is x32's is %#x on arm64", got)
	}
	if got := ask(t, open, "arm64", question{audit: arm}); got != retKillThread {
		t.Errorf("arm is %#x", got)
	}
}

func TestCallsThroughOthersAreTheSameCalls(t *testing.T) {
	t.Parallel()
	own := &profile{DefaultAction: "SCMP_ACT_ALLOW", Architectures: []string{"SCMP_ARCH_X86"}, Syscalls: []rule{{Names: []string{"socket", "shmget"}, Action: "SCMP_ACT_ERRNO"}}}
	for number, code := range map[uint32]uint64{359: 0, 395: 0, 102: 1, 117: 23} {
		if got := ask(t, own, "amd64", question{audit: i386, number: number, arguments: [6]uint64{code}}); got != 0x50001 {
			t.Errorf("call %d is %#x", number, got)
		}
	}
	if got := ask(t, own, "amd64", question{audit: i386, number: 102, arguments: [6]uint64{2}}); got != retAllow {
		t.Errorf("bind is %#x", got)
	}
}

func TestARuleIsForItsKernels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, before, release string
		holds                 bool
	}{
		{"4.8", "", "4.8.0", true}, {"4.8", "", "4.4.302", false}, {"4.8", "", "4.14.336-255.557.amzn2.x86_64", true}, {"4.8", "", "5.10.245-241.976.amzn2.x86_64", true},
		{"", "5.12", "5.10.0", true}, {"", "5.12", "5.12.0-rc1+", false}, {"4.8", "5.12", "6.1.0", false}, {"", "", "6.1", true},
	} {
		own := &agentv1.SeccompProfile{DefaultAction: "SCMP_ACT_ALLOW", Rules: []*agentv1.SeccompRule{
			{Names: []string{"mkdir"}, Action: "SCMP_ACT_ERRNO", MinKernel: c.from, BeforeKernel: c.before}}}
		if got := askOn(t, own, "amd64", c.release, question{audit: x86_64, number: 83}) == 0x50001; got != c.holds {
			t.Errorf("from %q before %q on %s: %v", c.from, c.before, c.release, got)
		}
	}
}

func TestWhatCannotBeCompiledIsRefused(t *testing.T) {
	t.Parallel()
	one := func(change func(*agentv1.SeccompProfile, *agentv1.SeccompRule)) *agentv1.SeccompProfile {
		rule := &agentv1.SeccompRule{Names: []string{"mkdir"}, Action: "SCMP_ACT_ERRNO"}
		own := &agentv1.SeccompProfile{DefaultAction: "SCMP_ACT_ALLOW", Rules: []*agentv1.SeccompRule{rule}}
		change(own, rule)
		return own
	}
	for words, own := range map[string]*agentv1.SeccompProfile{
		"string SCMP_ACT_JOKE is not a valid action": one(func(p *agentv1.SeccompProfile, _ *agentv1.SeccompRule) { p.DefaultAction = "SCMP_ACT_JOKE" }),
		"SCMP_ACT_NOTIFY is not possible":            one(func(_ *agentv1.SeccompProfile, r *agentv1.SeccompRule) { r.Action = "SCMP_ACT_NOTIFY" }),
		"string Z80 is not a valid arch":             one(func(p *agentv1.SeccompProfile, _ *agentv1.SeccompRule) { p.Architectures = []string{"Z80"} }),
		"seccomp flag LOUD is not known":             one(func(p *agentv1.SeccompProfile, _ *agentv1.SeccompRule) { p.Flags = []string{"LOUD"} }),
		"empty string is not a valid syscall":        one(func(_ *agentv1.SeccompProfile, r *agentv1.SeccompRule) { r.Names = []string{""} }),
		"no argument 6": one(func(_ *agentv1.SeccompProfile, r *agentv1.SeccompRule) {
			r.Conditions = []*agentv1.SeccompCondition{{Index: 6, Operator: "SCMP_CMP_EQ"}}
		}),
		"string SCMP_CMP_LIKE is not a valid operator": one(func(_ *agentv1.SeccompProfile, r *agentv1.SeccompRule) {
			r.Conditions = []*agentv1.SeccompCondition{{Operator: "SCMP_CMP_LIKE"}}
		}),
		`"soon" is no kernel version`: one(func(_ *agentv1.SeccompProfile, r *agentv1.SeccompRule) { r.MinKernel = "soon" }),
		"and the kernel takes 4096": one(func(p *agentv1.SeccompProfile, r *agentv1.SeccompRule) {
			for value := range uint64(1500) {
				p.Rules = append(p.Rules, &agentv1.SeccompRule{Names: []string{"read"}, Action: "SCMP_ACT_ERRNO", Conditions: []*agentv1.SeccompCondition{{Operator: "SCMP_CMP_EQ", Value: value}}})
			}
		}),
	} {
		_, err := Compile(own, "amd64", "6.1.0")
		assert.Check(t, is.ErrorContains(err, words), "instead of %q", words)
	}
	if _, err := Compile(one(func(*agentv1.SeccompProfile, *agentv1.SeccompRule) {}), "riscv64", "6.1.0"); err == nil {
		t.Error("a machine without a table of its calls is not refused")
	}
}

func TestFlagsAreTheKernels(t *testing.T) {
	t.Parallel()
	own := &agentv1.SeccompProfile{DefaultAction: "SCMP_ACT_ALLOW", Flags: []string{"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"}}
	filter, err := Compile(own, "amd64", "6.1.0")
	must(t, err)
	if filter.Flags != unix.SECCOMP_FILTER_FLAG_LOG|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW {
		t.Errorf("flags %#x", filter.Flags)
	}
}

// TestVerdictsAreWhatTheRulesSay compares programs for random profiles with a
// straightforward evaluation of their rules.
func TestVerdictsAreWhatTheRulesSay(t *testing.T) {
	t.Parallel()
	names := strings.Fields("read mkdirat socket newfstatat set_tls cacheflush clone mmap mmap2 no_such_call clock_gettime64 rt_sigreturn openat2 fcntl")
	actions := strings.Fields("SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_LOG SCMP_ACT_TRAP SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_TRACE")
	operators := strings.Fields("SCMP_CMP_EQ SCMP_CMP_NE SCMP_CMP_LT SCMP_CMP_LE SCMP_CMP_GT SCMP_CMP_GE SCMP_CMP_MASKED_EQ")
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(from []string) string { return from[random.IntN(len(from))] }
		operand := func() uint64 { return operands[random.IntN(len(operands))] }
		goarch := pick([]string{"amd64", "arm64"})
		own := &profile{DefaultAction: pick(actions)}
		for _, each := range machineOf(goarch) {
			own.Architectures = append(own.Architectures, each.name)
		}
		for range random.IntN(30) {
			rule := rule{Names: []string{pick(names), pick(names)}, Action: pick(actions)}
			for range random.IntN(4) {
				rule.Args = append(rule.Args, condition{Index: uint32(random.IntN(3)), Op: pick(operators), Value: operand(), ValueTwo: operand()})
			}
			own.Syscalls = append(own.Syscalls, rule)
		}
		filter, err := compile(own.message(), goarch, "6.1.0", false)
		must(t, err)
		vm := machineFor(t, filter.Instructions)
		for _, each := range machineOf(goarch) {
			if each.multiplexed != nil {
				continue
			}
			for _, name := range names {
				number, known := each.calls[name]
				if !known {
					continue
				}
				for range 40 {
					asked := question{audit: each.audit, number: number, arguments: [6]uint64{operand(), operand() + 1, operand() - 1}}
					if got, want := asked.to(t, vm), own.says(t, name, asked, each.long); got != want {
						text, _ := json.Marshal(own)
						t.Fatalf("seed %d: %s by %v is %#x instead of %#x\n%s", seed, name, asked, got, want, text)
					}
				}
			}
		}
	}
}

// says evaluates the rules one by one.
func (p *profile) says(t *testing.T, name string, asked question, long bool) uint32 {
	t.Helper()
	unnamed, err := actionOf(p.DefaultAction, p.DefaultErrnoRet)
	must(t, err)
	var conditional []uint32
	for _, rule := range p.Syscalls {
		action, err := actionOf(rule.Action, rule.ErrnoRet)
		must(t, err)
		if action == unnamed || !slices.Contains(rule.Names, name) {
			continue
		}
		together, any := true, false
		seen := map[uint32]bool{}
		repeated, always := false, len(rule.Args) == 0
		tautologies := 0
		for _, c := range rule.Args {
			holds, tautology := c.holds(t, asked.arguments[c.Index], long)
			together, any = together && holds, any || holds
			repeated = repeated || seen[c.Index]
			seen[c.Index] = true
			if tautology {
				tautologies++
			}
		}
		always = always || tautologies == len(rule.Args) || repeated && tautologies > 0
		switch {
		case always:
			return action // over all others
		case repeated && any, !repeated && together:
			conditional = append(conditional, action)
		}
	}
	return append(conditional, unnamed)[0]
}

func (c condition) holds(t *testing.T, argument uint64, long bool) (holds, tautology bool) {
	t.Helper()
	value, second := c.Value, c.ValueTwo
	if !long {
		argument, value, second = uint64(uint32(argument)), uint64(uint32(value)), uint64(uint32(second))
	}
	switch c.Op {
	case "SCMP_CMP_EQ":
		return argument == value, false
	case "SCMP_CMP_NE":
		return argument != value, false
	case "SCMP_CMP_LT":
		return argument < value, false
	case "SCMP_CMP_LE":
		return argument <= value, false
	case "SCMP_CMP_GT":
		return argument > value, false
	case "SCMP_CMP_GE":
		return argument >= value, false
	case "SCMP_CMP_MASKED_EQ":
		return argument&value == second&value, value == 0
	}
	t.Fatal(fmt.Errorf("operator %s", c.Op))
	return false, false
}
