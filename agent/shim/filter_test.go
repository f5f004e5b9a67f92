package shim_test

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"gotest.tools/v3/assert"

	compiler "github.com/sockerless/sockerless/agent/core/seccomp"
	"github.com/sockerless/sockerless/agent/shim"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// defaultProfile is Docker's, of which the tests use the rules that apply without
// capabilities.
const defaultProfile = "../../src/backends/local/oci/default-seccomp.json"

// newerCalls are calls of Linux 6.8 and later, which the runtime's libseccomp may
// not know.
var newerCalls = strings.Fields(`
	statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
	removexattrat open_tree_attr uretprobe`)

// ociProfile is `linux.seccomp` of the OCI runtime specification.
type ociProfile struct {
	DefaultAction   string   `json:"defaultAction"`
	DefaultErrnoRet *uint32  `json:"defaultErrnoRet"`
	Architectures   []string `json:"architectures"`
	Syscalls        []struct {
		Names    []string       `json:"names"`
		Action   string         `json:"action"`
		ErrnoRet *uint32        `json:"errnoRet,omitempty"`
		Args     []ociCondition `json:"args,omitempty"`
		Includes *ociConditions `json:"includes,omitempty"`
		Excludes *ociConditions `json:"excludes,omitempty"`
	} `json:"syscalls"`
}

type ociConditions struct {
	Arches    []string `json:"arches"`
	Caps      []string `json:"caps"`
	MinKernel string   `json:"minKernel"`
}

type ociCondition struct {
	Index    uint32 `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

// message is the profile as sent to a cloud agent.
func (p *ociProfile) message() *agentv1.SeccompProfile {
	message := &agentv1.SeccompProfile{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures}
	for _, each := range p.Syscalls {
		rule := &agentv1.SeccompRule{Names: each.Names, Action: each.Action, ErrnoRet: each.ErrnoRet}
		for _, c := range each.Args {
			rule.Conditions = append(rule.Conditions, &agentv1.SeccompCondition{Index: c.Index, Operator: c.Op, Value: c.Value, ValueTwo: c.ValueTwo})
		}
		message.Rules = append(message.Rules, rule)
	}
	return message
}

// dockerProfile is the default profile, and the runtime's form of it.
func dockerProfile(t *testing.T) (ociProfile, map[string]any) {
	t.Helper()
	content, err := os.ReadFile(defaultProfile)
	must(t, err)
	var profile ociProfile
	must(t, json.Unmarshal(content, &profile))
	profile.Architectures = []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}
	kept := profile.Syscalls[:0]
	for _, each := range profile.Syscalls {
		each.Names = slices.DeleteFunc(each.Names, func(name string) bool {
			return slices.Contains(newerCalls, name)
		})
		included := each.Includes == nil || len(each.Includes.Caps) == 0 && (each.Includes.Arches == nil || slices.Contains(each.Includes.Arches, runtime.GOARCH))
		excluded := each.Excludes != nil && slices.Contains(each.Excludes.Arches, runtime.GOARCH)
		if included && !excluded {
			each.Includes, each.Excludes = nil, nil
			kept = append(kept, each)
		}
	}
	profile.Syscalls = kept
	asOCI := map[string]any{}
	text, err := json.Marshal(profile)
	must(t, err)
	must(t, json.Unmarshal(text, &asOCI))
	return profile, asOCI
}

// TestTheFilterOfACloudContainerIsTheRuntimesForTheSameProfile compares the
// verdicts of the filter that the OCI runtime has loaded with those of the
// agent's own.
func TestTheFilterOfACloudContainerIsTheRuntimesForTheSameProfile(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the questions are for x86")
	}
	profile, asOCI := dockerProfile(t)
	pid := confined(t, func(map[string]any) {}, asOCI).ready.PID
	eventually(t, "the runtime's process is the program", func() bool {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		must(t, err)
		return !strings.HasPrefix(string(name), "runc")
	})
	theirs, err := shim.SeccompFilterOf(pid)
	must(t, err)
	filter, err := compiler.Compile(profile.message(), runtime.GOARCH, "6.1.0")
	must(t, err)
	runtimes := vm(t, instructions(theirs))
	var program []bpf.RawInstruction
	for _, each := range filter.Instructions {
		program = append(program, bpf.RawInstruction{Op: each.Code, Jt: each.Jt, Jf: each.Jf, K: each.K})
	}
	agents := vm(t, program)

	const highest = 600
	arguments := []uint64{0, 1, 8, 40, 0x20000, 0x20008, 0xffffffff, 1 << 32, 1<<32 + 40, 1<<64 - 1}
	random := rand.New(rand.NewPCG(5, 6))
	for _, audit := range []uint32{0xc000003e, 0x40000003, 8} {
		for _, bit := range []uint32{0, 1 << 30, 1 << 31} {
			for number := range uint32(highest) {
				for range 20 {
					var call [64]byte // words big-endian, as the VM reads them
					binary.BigEndian.PutUint32(call[0:], bit|number)
					binary.BigEndian.PutUint32(call[4:], audit)
					for i := range 6 {
						argument := arguments[random.IntN(len(arguments))]
						binary.BigEndian.PutUint32(call[16+8*i:], uint32(argument))
						binary.BigEndian.PutUint32(call[20+8*i:], uint32(argument>>32))
					}
					wanted, err := runtimes.Run(call[:])
					must(t, err)
					got, err := agents.Run(call[:])
					must(t, err)
					if got != wanted {
						t.Fatalf("call %#x of %#x with %x is %#x instead of %#x", bit|number, audit, call[16:], got, wanted)
					}
				}
			}
		}
	}
}

func vm(t *testing.T, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	instructions, known := bpf.Disassemble(program)
	assert.Assert(t, known, "an instruction is not known")
	vm, err := bpf.NewVM(instructions)
	must(t, err)
	return vm
}

func instructions(filter []byte) (program []bpf.RawInstruction) {
	for each := range slices.Chunk(filter, 8) {
		program = append(program, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(each), Jt: each[2], Jf: each[3], K: binary.NativeEndian.Uint32(each[4:])})
	}
	return program
}
