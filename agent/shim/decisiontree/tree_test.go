package decisiontree_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/sockerless/sockerless/agent/shim/decisiontree"
)

const (
	x86    = 0x40000003
	x86x64 = 0xc000003e
	arm64  = 0xc00000b7
	arm    = 0x40000028
	x32Bit = 0x40000000

	refused = 0x50001
	allowed = 0x7fff0000
)

// recorded answers a filter that runc 1.1.5 with libseccomp 2.5.4 has loaded, as
// PTRACE_SECCOMP_GET_FILTER has answered it. docker: of the default profile,
// without capabilities; strict: a list of what is allowed, with each operator on
// arguments; denies: a list of what is not; verdicts: all that a rule can say, by
// one architecture; one: a single rule. optimized, arm64: libseccomp's of Docker's
// profile as a binary tree, for which runc asks from 1.2 on, for two machines.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	filter, err := os.ReadFile(filepath.Join("testdata", name+".bpf"))
	must(t, err)
	return filter
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func raw(filter []byte) (program []bpf.RawInstruction) {
	for each := range slices.Chunk(filter, 8) {
		program = append(program, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(each), Jt: each[2], Jf: each[3], K: binary.NativeEndian.Uint32(each[4:])})
	}
	return program
}

func bytesOf(program []bpf.RawInstruction) (filter []byte) {
	for _, each := range program {
		filter = binary.NativeEndian.AppendUint16(filter, each.Op)
		filter = binary.NativeEndian.AppendUint32(append(filter, each.Jt, each.Jf), each.K)
	}
	return filter
}

// oracle runs a filter: a machine that has nothing of ours.
func oracle(t testing.TB, filter []byte) *bpf.VM {
	t.Helper()
	instructions, whole := bpf.Disassemble(raw(filter))
	if !whole {
		t.Fatal("an instruction is not known")
	}
	vm, err := bpf.NewVM(instructions)
	must(t, err)
	return vm
}

// asker compares two filters.
type asker struct {
	testing.TB
	original, made *bpf.VM
	operands       []uint32
	random         *rand.Rand
}

func newAsker(t testing.TB, original, made []byte) *asker {
	a := &asker{TB: t, original: oracle(t, original), made: oracle(t, made), random: rand.New(rand.NewPCG(1, 2))}
	a.operands = []uint32{0, 1, math.MaxInt32, 1 << 31, math.MaxUint32}
	for _, each := range raw(original) {
		a.operands = append(a.operands, each.K-1, each.K, each.K+1)
	}
	slices.Sort(a.operands)
	a.operands = slices.Compact(a.operands)
	return a
}

// ask compares the verdicts on a call with arguments at random: near what the
// filter compares with, for the most part.
func (a *asker) ask(arch, number uint32) {
	a.Helper()
	var call [64]byte // words big-endian, as the machine reads them
	binary.BigEndian.PutUint32(call[0:], number)
	binary.BigEndian.PutUint32(call[4:], arch)
	for at := 8; at < len(call); at += 4 {
		word := a.random.Uint32()
		if a.random.IntN(4) > 0 {
			word = a.operands[a.random.IntN(len(a.operands))]
		}
		binary.BigEndian.PutUint32(call[at:], word)
	}
	wanted, err := a.original.Run(call[:])
	must(a, err)
	got, err := a.made.Run(call[:])
	must(a, err)
	if got != wanted {
		a.Fatalf("call %#x of %#x with %x is %#x instead of %#x", number, arch, call[8:], got, wanted)
	}
}

// askAll asks for every number that any machine has, and whatever the filter
// compares with.
func (a *asker) askAll(times int) {
	a.Helper()
	numbers := slices.Clone(a.operands)
	for number := range uint32(1024) {
		numbers = append(numbers, number, x32Bit|number)
	}
	for block := range uint32(16) {
		numbers = append(numbers, block<<28, block<<28-1)
	}
	for _, arch := range []uint32{x86x64, x86, arm64, arm, 0, x86 + 1, x86x64 - 1, x86x64 + 1, math.MaxUint32} {
		for _, number := range numbers {
			for range times {
				a.ask(arch, number)
			}
		}
	}
}

func TestWhatRuncLoadsIsDecidedAlikeByFewerInstructions(t *testing.T) {
	for name, atMost := range map[string]int{"docker": 240, "strict": 320, "denies": 150, "verdicts": 90, "one": 9, "optimized": 240, "arm64": 180} {
		t.Run(name, func(t *testing.T) {
			original := recorded(t, name)
			made := decisiontree.Equivalent(slices.Clone(original))
			if len(made)/8 > atMost {
				t.Errorf("%d instructions, and there were %d", len(made)/8, len(original)/8)
			}
			newAsker(t, original, made).askAll(3)
		})
	}
}

// steps are how many instructions a filter takes for a call up to its verdict or
// the first argument that is asked for.
func steps(filter []byte, arch, number uint32) (count int) {
	program := raw(filter)
	loaded := uint32(0)
	for at := 0; ; at++ {
		count++
		each := program[at]
		holds := false
		switch each.Op {
		case 0x06:
			return count
		case 0x05:
			at += int(each.K)
			continue
		case 0x20:
			if each.K > 4 {
				return count
			}
			loaded = map[uint32]uint32{0: number, 4: arch}[each.K]
			continue
		case 0x15:
			holds = loaded == each.K
		case 0x25:
			holds = loaded > each.K
		case 0x35:
			holds = loaded >= each.K
		case 0x45:
			holds = loaded&each.K != 0
		}
		at += int(each.Jf)
		if holds {
			at += int(each.Jt) - int(each.Jf)
		}
	}
}

// The kernel goes this way for each call of each architecture when it loads a filter.
func TestACallIsDecidedInAFewSteps(t *testing.T) {
	for _, name := range []string{"docker", "strict", "denies"} {
		made := decisiontree.Equivalent(recorded(t, name))
		for _, arch := range []uint32{x86x64, x86} {
			for number := range uint32(456) {
				if count := steps(made, arch, number); count > 16 {
					t.Errorf("call %d of %#x takes %d steps of %s", number, arch, count, name)
				}
			}
		}
	}
}

func TestAFilterThatIsMadeIsLeftAlone(t *testing.T) {
	made := decisiontree.Equivalent(recorded(t, "docker"))
	if again := decisiontree.Equivalent(slices.Clone(made)); !bytes.Equal(again, made) {
		t.Fatalf("%d instructions of %d", len(again)/8, len(made)/8)
	}
}

// Also what is no filter, and what would not become shorter.
func TestWhatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	docker := raw(recorded(t, "docker"))
	const argument = 616 // the load of one
	if docker[argument] != (bpf.RawInstruction{Op: 0x20, K: 20}) {
		t.Fatal(docker[argument])
	}
	in := func(other bpf.RawInstruction) []byte {
		changed := slices.Clone(docker)
		changed[argument] = other
		return bytesOf(changed)
	}
	with := func(first ...bpf.RawInstruction) []byte { return bytesOf(append(first, docker...)) }
	for name, filter := range map[string][]byte{
		"nothing":                    {},
		"half an instruction":        recorded(t, "docker")[:8012],
		"no verdict at the end":      bytesOf(docker[:1000]),
		"a jump behind the end":      with(bpf.RawInstruction{Op: 0x05, K: 1002}),
		"a jump far behind the end":  with(bpf.RawInstruction{Op: 0x05, K: math.MaxUint32}),
		"a branch behind the end":    bytesOf([]bpf.RawInstruction{{Op: 0x20}, {Op: 0x15, Jt: 1}, {Op: 0x06}}),
		"a store":                    in(bpf.RawInstruction{Op: 0x02}),
		"a store of the other":       in(bpf.RawInstruction{Op: 0x03}),
		"a load of memory":           in(bpf.RawInstruction{Op: 0x60}),
		"a constant":                 in(bpf.RawInstruction{Op: 0x00, K: 1}),
		"a length":                   in(bpf.RawInstruction{Op: 0x80}),
		"the other register":         in(bpf.RawInstruction{Op: 0x07}),
		"a sum":                      in(bpf.RawInstruction{Op: 0x04, K: 1}),
		"a mask in the other":        in(bpf.RawInstruction{Op: 0x5c}),
		"a comparison of registers":  in(bpf.RawInstruction{Op: 0x1d}),
		"the accumulator's verdict":  in(bpf.RawInstruction{Op: 0x16}),
		"half a word":                in(bpf.RawInstruction{Op: 0x28}),
		"a word behind the call":     in(bpf.RawInstruction{Op: 0x20, K: 64}),
		"a word between two":         in(bpf.RawInstruction{Op: 0x20, K: 18}),
		"arithmetic before any load": with(bpf.RawInstruction{Op: 0x54, K: 1}),
		"a mask of a number":         with(bpf.RawInstruction{Op: 0x20}, bpf.RawInstruction{Op: 0x54, K: 1}, bpf.RawInstruction{Op: 0x15, Jt: 200}),
		"a search that is balanced":  balanced(100),
		"a verdict alone":            bytesOf([]bpf.RawInstruction{{Op: 0x06, K: 0x7fff0000}}),
		"an argument before all":     with(bpf.RawInstruction{Op: 0x20, K: 16}, bpf.RawInstruction{Op: 0x15, Jt: 200}),
		"more steps than allowed":    descending(2000),
		"low bits of a number":       bytesOf([]bpf.RawInstruction{{Op: 0x20}, {Op: 0x45, Jt: 1, K: 3}, {Op: 0x06}, {Op: 0x06, K: 1}}),
	} {
		t.Run(name, func(t *testing.T) {
			if got := decisiontree.Equivalent(slices.Clone(filter)); !bytes.Equal(got, filter) {
				t.Fatalf("%d bytes of %d", len(got), len(filter))
			}
		})
	}
}

// Twenty numbers are refused after a first test, of which the others are refused
// or allowed.
func TestAFirstTestDividesTheCalls(t *testing.T) {
	for name, test := range map[string]struct {
		loaded  uint32 // an offset
		first   bpf.RawInstruction
		last    uint32 // verdict of the last of the numbers
		shorter bool
	}{
		"in two by the number":       {0, bpf.RawInstruction{Op: 0x35, Jt: 41, K: x32Bit}, refused, true},
		"in two by the architecture": {4, bpf.RawInstruction{Op: 0x35, Jt: 41, K: x86x64}, refused, true},
		"often, by a bit":            {0, bpf.RawInstruction{Op: 0x45, Jt: 41, K: 1 << 27}, refused + 1, false},
	} {
		program := []bpf.RawInstruction{{Op: 0x20, K: test.loaded}, test.first}
		for number := range uint32(20) {
			program = append(program, bpf.RawInstruction{Op: 0x15, Jf: 1, K: number}, bpf.RawInstruction{Op: 0x06, K: refused})
		}
		program[len(program)-1].K = test.last
		program = append(program, bpf.RawInstruction{Op: 0x06, K: refused}, bpf.RawInstruction{Op: 0x06, K: allowed})
		if shorter := compare(t, bytesOf(program)); shorter != test.shorter {
			t.Errorf("%s: shorter is %t", name, shorter)
		}
	}
}

// Each architecture has numbers of its own.
func TestAFilterOfManyArchitecturesIsLeftAlone(t *testing.T) {
	for count, shorter := range map[uint32]bool{32: true, 33: false} {
		var program []bpf.RawInstruction
		for arch := range count {
			program = append(program, bpf.RawInstruction{Op: 0x20, K: 4}, bpf.RawInstruction{Op: 0x15, Jf: 62, K: arch}, bpf.RawInstruction{Op: 0x20})
			for number := range uint32(30) {
				program = append(program, bpf.RawInstruction{Op: 0x15, Jf: 1, K: arch + number}, bpf.RawInstruction{Op: 0x06, K: refused})
			}
			program = append(program, bpf.RawInstruction{Op: 0x06, K: allowed})
		}
		program = append(program, bpf.RawInstruction{Op: 0x06, K: refused})
		if made := compare(t, bytesOf(program)); made != shorter {
			t.Errorf("of %d architectures: shorter is %t", count, made)
		}
	}
}

// balanced finds a number by a binary search already.
func balanced(numbers int) []byte {
	var search func(first, count int) []bpf.RawInstruction
	search = func(first, count int) []bpf.RawInstruction {
		if count == 1 {
			return []bpf.RawInstruction{{Op: 0x06, K: 0x50000 | uint32(first)}}
		}
		below := search(first, count/2)
		above := search(first+count/2, count-count/2)
		both := []bpf.RawInstruction{{Op: 0x35, K: uint32(first + count/2), Jt: uint8(len(below))}}
		return append(append(both, below...), above...)
	}
	return bytesOf(append([]bpf.RawInstruction{{Op: 0x20}}, search(0, numbers)...))
}

// descending compares with one number after the other, from the highest on, so
// that many ranges go the whole way; only the last comparison matters.
func descending(numbers int) []byte {
	program := []bpf.RawInstruction{{Op: 0x20}}
	for i := range numbers {
		program = append(program, bpf.RawInstruction{Op: 0x15, K: uint32(2 * (numbers - i))})
	}
	return bytesOf(append(program, bpf.RawInstruction{Op: 0x15, Jt: 1, K: 1}, bpf.RawInstruction{Op: 0x06}, bpf.RawInstruction{Op: 0x06, K: 0x7fff0000}))
}

func TestAFilterThatTakesLessThanTheLimitOfStepsIsMadeShort(t *testing.T) {
	original := descending(700)
	made := decisiontree.Equivalent(slices.Clone(original))
	if len(made)/8 > 5 {
		t.Fatalf("%d instructions", len(made)/8)
	}
	newAsker(t, original, made).askAll(1)
}
