package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// maxInstructions is the kernel's limit (BPF_MAXINSNS).
const maxInstructions = 4096

// maxArguments is the number of a system call's arguments.
const maxArguments = 6

// Filter is a program with its load flags.
type Filter struct {
	Instructions []unix.SockFilter
	Flags        uintptr
}

// Compile compiles a profile for a machine, given as GOARCH, and a kernel release
// as from uname(2). Any defect of the profile is an error.
func Compile(profile *agentv1.SeccompProfile, goarch, kernel string) (*Filter, error) {
	// Like runc, which leaves new calls to a tracer, too.
	lenient := []string{"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
	return compile(profile, goarch, kernel, !slices.Contains(lenient, profile.DefaultAction))
}

// compile compiles with or without runc's own rule for calls above all named
// ones.
func compile(profile *agentv1.SeccompProfile, goarch, kernel string, newCalls bool) (*Filter, error) {
	of := machineOf(goarch)
	if of == nil {
		return nil, fmt.Errorf("seccomp profiles are not compiled for %s", goarch)
	}
	abis, err := abisOf(profile.Architectures, of)
	if err != nil {
		return nil, err
	}
	flags, err := flagsOf(profile.Flags)
	if err != nil {
		return nil, err
	}
	unnamed, err := actionOf(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	var sections []section
	for _, each := range abis {
		found, err := collect(profile, &each.abi, unnamed, kernel)
		if err != nil {
			return nil, err
		}
		code := found.code()
		if newCalls && found.last > 0 {
			code = branch(bpf.JumpGreaterThan, found.last, result(retErrno|uint32(unix.ENOSYS)), code)
		}
		sections = append(sections, section{&each.abi, code})
	}
	raw, err := bpf.Assemble(dispatch(sections))
	if err != nil {
		return nil, fmt.Errorf("assemble the seccomp filter: %w", err)
	}
	if len(raw) > maxInstructions {
		return nil, fmt.Errorf("the seccomp profile makes %d instructions, and the kernel takes %d", len(raw), maxInstructions)
	}
	filter := &Filter{Flags: flags, Instructions: make([]unix.SockFilter, len(raw))}
	for i, each := range raw {
		filter.Instructions[i] = unix.SockFilter{Code: each.Op, Jt: each.Jt, Jf: each.Jf, K: each.K}
	}
	return filter, nil
}

// verdicts are a profile's decisions on an ABI's calls.
type verdicts struct {
	unnamed uint32
	calls   map[uint32]*verdict
	last    uint32 // the highest call that the profile names, as runc counts
	long    bool
}

// verdict is the decision on one system call: for the whole call, or rules with
// conditions that precede the default.
type verdict struct {
	whole  bool
	action uint32
	rules  []conditional
}

type conditional struct {
	conditions []*agentv1.SeccompCondition
	action     uint32
}

func collect(profile *agentv1.SeccompProfile, of *abi, unnamed uint32, kernel string) (*verdicts, error) {
	found := &verdicts{unnamed: unnamed, calls: map[uint32]*verdict{}, long: of.long}
	for _, rule := range profile.Rules {
		action, err := actionOf(rule.Action, rule.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if err := checkConditions(rule.Conditions); err != nil {
			return nil, err
		}
		if now, err := holds(rule, kernel); err != nil {
			return nil, err
		} else if !now {
			continue
		}
		for _, name := range rule.Names {
			if name == "" {
				return nil, fmt.Errorf("empty string is not a valid syscall")
			}
			through, isMultiplexed := of.multiplexed[name]
			number, isDirect := of.calls[name]
			if isDirect && !isMultiplexed {
				found.last = max(found.last, number)
			}
			if action == unnamed {
				continue // adds nothing
			}
			for _, conditions := range alternatives(rule.Conditions) {
				if isMultiplexed {
					found.add(of.calls[through.through], conditional{throughCall(through, conditions), action})
				}
				if isDirect {
					found.add(number, conditional{conditions, action})
				}
			}
		}
	}
	return found, nil
}

// checkConditions returns an error for an invalid condition.
func checkConditions(conditions []*agentv1.SeccompCondition) error {
	for _, condition := range conditions {
		if condition.Index >= maxArguments {
			return fmt.Errorf("system calls have no argument %d", condition.Index)
		}
		if _, known := comparisons[condition.Operator]; !known {
			return fmt.Errorf("string %s is not a valid operator for seccomp", condition.Operator)
		}
	}
	return nil
}

// alternatives groups conditions that must hold together. As in runc, each stands
// alone if two concern the same argument.
func alternatives(conditions []*agentv1.SeccompCondition) [][]*agentv1.SeccompCondition {
	var seen [maxArguments]bool
	for _, condition := range conditions {
		if seen[condition.Index] {
			return slices.Collect(slices.Chunk(conditions, 1))
		}
		seen[condition.Index] = true
	}
	return [][]*agentv1.SeccompCondition{conditions}
}

// throughCall are a call's conditions when it is made through another, whose
// first argument selects it.
func throughCall(through multiplexed, conditions []*agentv1.SeccompCondition) []*agentv1.SeccompCondition {
	all := []*agentv1.SeccompCondition{{Index: 0, Operator: "SCMP_CMP_EQ", Value: through.code}}
	for _, condition := range conditions {
		if condition.Index != 0 {
			all = append(all, condition)
		}
	}
	return all
}

func (v *verdicts) add(number uint32, rule conditional) {
	rule.conditions = slices.DeleteFunc(slices.Clone(rule.conditions), v.alwaysHolds)
	known := v.calls[number]
	switch {
	case known == nil:
		known = &verdict{}
		v.calls[number] = known
	case known.whole:
		return
	}
	if len(rule.conditions) == 0 {
		*known = verdict{whole: true, action: rule.action}
		return
	}
	known.rules = append(known.rules, rule)
}

// alwaysHolds reports whether the mask leaves nothing of the argument to compare.
func (v *verdicts) alwaysHolds(condition *agentv1.SeccompCondition) bool {
	return condition.Operator == "SCMP_CMP_MASKED_EQ" && (condition.Value == 0 || !v.long && uint32(condition.Value) == 0)
}
