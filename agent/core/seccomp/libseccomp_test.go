package seccomp

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// libseccomp is the real library, called through Python if both are installed.
type libseccomp struct {
	ask  *json.Encoder
	read *bufio.Reader
}

func startLibseccomp(t *testing.T) *libseccomp {
	t.Helper()
	if exec.Command("python3", "-c", `import ctypes; ctypes.CDLL("libseccomp.so.2")`).Run() != nil {
		t.Skip("needs python3 and libseccomp")
	}
	python := exec.CommandContext(t.Context(), "python3", "testdata/libseccomp.py")
	stdin, err := python.StdinPipe()
	must(t, err)
	stdout, err := python.StdoutPipe()
	must(t, err)
	python.Stderr = os.Stderr
	must(t, python.Start())
	t.Cleanup(func() {
		stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = python.Wait()
	})
	return &libseccomp{json.NewEncoder(stdin), bufio.NewReaderSize(stdout, 1<<20)}
}

// compile returns what it makes of a profile, without runc's own rules.
func (l *libseccomp) compile(t *testing.T, profile *profile) *bpf.VM {
	t.Helper()
	must(t, l.ask.Encode(profile))
	line, err := l.read.ReadString('\n')
	must(t, err)
	program, err := hex.DecodeString(line[:len(line)-1])
	must(t, err)
	var instructions []unix.SockFilter
	for each := range slices.Chunk(program, 8) {
		instructions = append(instructions, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(each), Jt: each[2], Jf: each[3], K: binary.NativeEndian.Uint32(each[4:])})
	}
	return machineFor(t, instructions)
}

// operands are values at which comparisons of halves and wholes differ.
var operands = []uint64{0, 1, 2, 3, 7, 40, math.MaxInt32, 1 << 31, math.MaxUint32, 1 << 32, 1<<32 + 1, 1<<33 + 5, math.MaxUint64 - 1, math.MaxUint64}

// TestConditionsAreThoseOfLibseccomp compiles one rule at a time: libseccomp
// before 2.6.1 merges differing comparisons of several rules
// (GHSA-4q85-33p6-j5g6).
func TestConditionsAreThoseOfLibseccomp(t *testing.T) {
	oracle := startLibseccomp(t)
	random := rand.New(rand.NewPCG(1, 2))
	for goarch, name := range map[string]string{"amd64": "mkdirat", "arm64": "mkdirat"} {
		for operator := range comparisons {
			for _, value := range operands {
				own := &profile{DefaultAction: "SCMP_ACT_ALLOW", Syscalls: []rule{
					{Names: []string{name}, Action: "SCMP_ACT_ERRNO", Args: []condition{{Index: 1, Op: operator, Value: value, ValueTwo: operands[random.IntN(len(operands))]}}},
				}}
				for _, each := range machineOf(goarch) {
					own.Architectures = append(own.Architectures, each.name)
					agree(t, own, goarch, oracle.compile(t, own), questions(goarch, []string{name}, random))
				}
			}
		}
	}
}

// TestDockersProfileIsThatOfLibseccomp asks about every call that either knows.
func TestDockersProfileIsThatOfLibseccomp(t *testing.T) {
	oracle := startLibseccomp(t)
	for goarch := range map[string]bool{"amd64": true, "arm64": true} {
		own := dockers(t, goarch)
		var names []string
		for _, abi := range machineOf(goarch) {
			names = slices.AppendSeq(names, maps.Keys(abi.calls))
		}
		// Calls that libseccomp 2.5.4 does not know, or knows by their other name only.
		newer := strings.Fields("statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr uretprobe")
		for i := range own.Syscalls {
			own.Syscalls[i].Names = slices.DeleteFunc(own.Syscalls[i].Names, func(name string) bool { return slices.Contains(newer, name) })
		}
		agree(t, own, goarch, oracle.compile(t, own), questions(goarch, names, rand.New(rand.NewPCG(3, 4))))
	}
}

// agree compares the verdicts of libseccomp's filter with ours, except for runc's
// own rule on new calls.
func agree(t *testing.T, own *profile, goarch string, theirs *bpf.VM, asked []question) {
	t.Helper()
	filter, err := compile(own.message(), goarch, "6.1.0", false)
	must(t, err)
	ours := machineFor(t, filter.Instructions)
	for _, each := range asked {
		if got, want := each.to(t, ours), each.to(t, theirs); got != want {
			text, _ := json.Marshal(own)
			t.Fatalf("%v is %#x instead of %#x\n%.2000s", each, got, want, text)
		}
	}
}

// dockers is Docker's default for a container with Docker's default
// capabilities.
func dockers(t *testing.T, goarch string) *profile {
	t.Helper()
	content, err := os.ReadFile("../../../src/backends/local/oci/default-seccomp.json")
	must(t, err)
	type when struct {
		Caps   []string `json:"caps"`
		Arches []string `json:"arches"`
	}
	var whole struct {
		profile
		Syscalls []struct {
			rule
			Includes when `json:"includes"`
			Excludes when `json:"excludes"`
		} `json:"syscalls"`
	}
	must(t, json.Unmarshal(content, &whole))
	given := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	isGiven := func(name string) bool { return slices.Contains(given, name) }
	own := &whole.profile
	own.Syscalls = nil
	for _, each := range whole.Syscalls {
		caps, arches := each.Includes.Caps, each.Includes.Arches
		switch {
		case len(arches) > 0 && !slices.Contains(arches, goarch), slices.ContainsFunc(caps, func(name string) bool { return !isGiven(name) }):
		case slices.Contains(each.Excludes.Arches, goarch), slices.ContainsFunc(each.Excludes.Caps, isGiven):
		default:
			own.Syscalls = append(own.Syscalls, each.rule)
		}
	}
	for _, each := range machineOf(goarch) {
		own.Architectures = append(own.Architectures, each.name)
	}
	return own
}

// question is a system call as seen by a filter.
type question struct {
	audit, number uint32
	arguments     [6]uint64
}

func (q question) String() string {
	return fmt.Sprintf("call %#x of %#x with %#x", q.number, q.audit, q.arguments)
}

// to evaluates a filter. The VM reads big-endian words; the kernel reads its own.
func (q question) to(t *testing.T, vm *bpf.VM) uint32 {
	t.Helper()
	var data [64]byte
	put := binary.BigEndian.PutUint32
	put(data[numberOffset:], q.number)
	put(data[archOffset:], q.audit)
	for i, argument := range q.arguments {
		put(data[argumentsOffset+argumentSize*i:], uint32(argument))
		put(data[argumentsOffset+argumentSize*i+wordSize:], uint32(argument>>32))
	}
	verdict, err := vm.Run(data[:])
	must(t, err)
	return uint32(verdict)
}

// questions are calls by name and by edge-case numbers, with arguments around the
// operands.
func questions(goarch string, names []string, random *rand.Rand) []question {
	const foreign = 8 // MIPS
	var all []question
	audits := map[uint32]bool{foreign: true}
	for _, abi := range machineOf(goarch) {
		audits[abi.audit] = true
	}
	for audit := range audits {
		numbers := map[uint32]bool{0: true, 1 << 20: true, x32Bit: true, math.MaxUint32: true, x32Bit - 1: true, 1 << 31: true}
		for _, abi := range machineOf(goarch) {
			for _, name := range names {
				if number, known := abi.calls[name]; known && abi.audit == audit {
					numbers[number], numbers[number+1] = true, true
				}
			}
		}
		for number := range numbers {
			for range 40 {
				each := question{audit: audit, number: number}
				for i := range 3 {
					each.arguments[i] = operands[random.IntN(len(operands))] + uint64(random.IntN(3)-1)
				}
				all = append(all, each)
			}
		}
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	assert.NilError(t, err)
}

func machineFor(t *testing.T, program []unix.SockFilter) *bpf.VM {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(program))
	for i, each := range program {
		raw[i] = bpf.RawInstruction{Op: each.Code, Jt: each.Jt, Jf: each.Jf, K: each.K}
	}
	instructions, whole := bpf.Disassemble(raw)
	assert.Assert(t, whole, "an instruction is not known")
	vm, err := bpf.NewVM(instructions)
	must(t, err)
	return vm
}

// profile is OCI's form.
type profile struct {
	DefaultAction   string   `json:"defaultAction"`
	DefaultErrnoRet *uint32  `json:"defaultErrnoRet,omitempty"`
	Architectures   []string `json:"architectures"`
	Flags           []string `json:"flags,omitempty"`
	Syscalls        []rule   `json:"syscalls"`
}

type rule struct {
	Names    []string    `json:"names"`
	Action   string      `json:"action"`
	ErrnoRet *uint32     `json:"errnoRet,omitempty"`
	Args     []condition `json:"args,omitempty"`
}

type condition struct {
	Index    uint32 `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

func (p *profile) message() *agentv1.SeccompProfile {
	message := &agentv1.SeccompProfile{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures, Flags: p.Flags}
	for _, each := range p.Syscalls {
		rule := &agentv1.SeccompRule{Names: each.Names, Action: each.Action, ErrnoRet: each.ErrnoRet}
		for _, c := range each.Args {
			rule.Conditions = append(rule.Conditions, &agentv1.SeccompCondition{Index: c.Index, Operator: c.Op, Value: c.Value, ValueTwo: c.ValueTwo})
		}
		message.Rules = append(message.Rules, rule)
	}
	return message
}
