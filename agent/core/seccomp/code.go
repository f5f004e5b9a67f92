package seccomp

import (
	"maps"
	"math"
	"slices"

	"golang.org/x/net/bpf"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Offsets and sizes, in bytes, of the fields of struct seccomp_data that filters
// read. Both machines are little-endian.
const (
	numberOffset    = 0
	archOffset      = 4
	argumentsOffset = 16
	argumentSize    = 8
	wordSize        = 4
)

// code is part of a program that always ends in a verdict, and so can stand
// anywhere. Only rules continue after themselves if they do not match.
type code = []bpf.Instruction

type section struct {
	abi  *abi
	code code // with the number of the call loaded
}

func load(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: wordSize} }

func result(value uint32) code { return code{bpf.RetConstant{Val: value}} }

// branch goes one way or the other.
func branch(test bpf.JumpTest, value uint32, holds, otherwise code) code {
	both := code{bpf.JumpIf{Cond: test, Val: value, SkipFalse: uint8(min(len(holds), math.MaxUint8))}}
	if len(holds) > math.MaxUint8 {
		both = code{bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(holds))}}
	}
	return append(append(both, holds...), otherwise...)
}

// dispatch selects the section of a call's ABI.
func dispatch(sections []section) code {
	var main, x32 *section
	program := result(retKillThread) // of an architecture that nobody named
	for i := range sections {
		switch each := &sections[i]; {
		case i == 0:
			main = each
		case each.abi.bit == x32Bit:
			x32 = each
		default:
			program = branch(bpf.JumpEqual, each.abi.audit, append(code{load(numberOffset)}, each.code...), program)
		}
	}
	return append(code{load(archOffset)}, branch(bpf.JumpEqual, main.abi.audit, append(code{load(numberOffset)}, withX32(main, x32)...), program)...)
}

// withX32 separates the two 64-bit ABIs that share an architecture. Without x32
// in the profile its calls belong to no architecture, except number −1, with
// which tracers suppress calls.
func withX32(main, x32 *section) code {
	const suppressed = math.MaxUint32
	switch {
	case x32 != nil:
		return branch(bpf.JumpBitsSet, x32Bit, x32.code, main.code)
	case !main.abi.besideX32:
		return main.code
	}
	return branch(bpf.JumpGreaterOrEqual, x32Bit, branch(bpf.JumpEqual, suppressed, slices.Clone(main.code), result(retKillThread)), main.code)
}

// code decides by the loaded number: a binary search over runs of calls with the
// same verdict.
func (v *verdicts) code() code {
	runs := []run{{0, &verdict{whole: true, action: v.unnamed}}}
	for _, number := range slices.Sorted(maps.Keys(v.calls)) {
		runs = append(runs, run{number, v.calls[number]}, run{number + 1, &verdict{whole: true, action: v.unnamed}})
	}
	// Skips empty runs and those that continue the previous one.
	var merged []run
	for i, each := range runs {
		if i+1 < len(runs) && runs[i+1].first == each.first {
			continue
		}
		if last := len(merged) - 1; last >= 0 && merged[last].verdict.whole && each.verdict.whole && merged[last].verdict.action == each.verdict.action {
			continue
		}
		merged = append(merged, each)
	}
	return v.search(merged)
}

// run is the verdict on all calls from a number on.
type run struct {
	first   uint32
	verdict *verdict
}

func (v *verdicts) search(runs []run) code {
	if len(runs) == 1 {
		return v.decide(runs[0].verdict)
	}
	middle := len(runs) / 2
	return branch(bpf.JumpGreaterOrEqual, runs[middle].first, v.search(runs[middle:]), v.search(runs[:middle]))
}

// decide evaluates the rules of one call.
func (v *verdicts) decide(on *verdict) code {
	if on.whole {
		return result(on.action)
	}
	var all code
	for _, rule := range on.rules {
		all = append(all, v.rule(rule)...)
	}
	return append(all, result(v.unnamed)...)
}

// rule returns its action if all conditions hold, and otherwise continues after
// itself.
func (v *verdicts) rule(rule conditional) code {
	matched := result(rule.action)
	for _, condition := range slices.Backward(rule.conditions) {
		matched = append(v.compare(condition, uint8(len(matched))), matched...)
	}
	return matched
}

// comparison is a condition's comparison, on halves of an argument: the lower
// half only matters if the higher ones are equal.
type comparison struct {
	low     bpf.JumpTest // what must hold of the lower halves where the higher are equal
	higher  bool         // holds where the argument's higher half is above the value's
	lower   bool         // holds where it is below
	isOrder bool         // above and below differ
}

var comparisons = map[string]comparison{
	"SCMP_CMP_EQ":        {low: bpf.JumpEqual},
	"SCMP_CMP_MASKED_EQ": {low: bpf.JumpEqual},
	"SCMP_CMP_NE":        {low: bpf.JumpNotEqual, higher: true, lower: true},
	"SCMP_CMP_GT":        {low: bpf.JumpGreaterThan, higher: true, isOrder: true},
	"SCMP_CMP_GE":        {low: bpf.JumpGreaterOrEqual, higher: true, isOrder: true},
	"SCMP_CMP_LT":        {low: bpf.JumpLessThan, lower: true, isOrder: true},
	"SCMP_CMP_LE":        {low: bpf.JumpLessOrEqual, lower: true, isOrder: true},
}

// compare continues if the condition holds, and otherwise skips the next `rest`
// instructions.
func (v *verdicts) compare(condition *agentv1.SeccompCondition, rest uint8) code {
	how := comparisons[condition.Operator]
	mask, value := uint64(math.MaxUint64), condition.Value
	if condition.Operator == "SCMP_CMP_MASKED_EQ" {
		mask, value = condition.Value, condition.ValueTwo&condition.Value
	}
	offset := uint32(argumentsOffset + argumentSize*condition.Index)
	low := append(loadMasked(offset, uint32(mask)), bpf.JumpIf{Cond: how.low, Val: uint32(value), SkipFalse: rest})
	if !v.long {
		return low
	}
	skip := func(holds bool, behind int) uint8 {
		if holds {
			return uint8(behind + len(low))
		}
		return uint8(behind + len(low) + int(rest))
	}
	high := uint32(value >> 32)
	all := loadMasked(offset+wordSize, uint32(mask>>32))
	if how.isOrder {
		all = append(all, bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: high, SkipTrue: skip(how.higher, 1)})
	}
	return append(append(all, bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: skip(how.lower, 0)}), low...)
}

func loadMasked(offset, mask uint32) code {
	if mask == math.MaxUint32 {
		return code{load(offset)}
	}
	return code{load(offset), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}}
}
