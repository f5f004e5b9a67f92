package shim_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/shim"
)

func instructions(filter []byte) (program []bpf.RawInstruction) {
	for each := range slices.Chunk(filter, 8) {
		program = append(program, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(each), Jt: each[2], Jf: each[3], K: binary.NativeEndian.Uint32(each[4:])})
	}
	return program
}

// TestAnExecsSeccompFilterDecidesAsTheMainProcesss reads both from the kernel. It asks for every
// number that may be told from the one before, by what the main process's compares with.
func TestAnExecsSeccompFilterDecidesAsTheMainProcesss(t *testing.T) {
	_, docker := dockerProfile(t)
	for name, profile := range map[string]map[string]any{"Docker's": docker, "a list of denials": seccomp()} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, func(map[string]any) {}, profile)
			s := c.exec("e", &agentv1.ProcessSpec{Args: sleeper})
			for s.started == nil {
				s.next()
			}
			theirs, err := shim.SeccompFilterOf(c.ready.PID)
			must(t, err)
			own, err := shim.SeccompFilterOf(int(s.started.Pid))
			must(t, err)
			if len(own) == 0 || len(own) > len(theirs) || name == "Docker's" && len(own) > len(theirs)/3 {
				t.Fatalf("%d bytes of filter, and the main process has %d", len(own), len(theirs))
			}
			decideAlike(t, theirs, own)
			s.vanish()
		})
	}
}

func decideAlike(t *testing.T, theirs, own []byte) {
	t.Helper()
	wanted, got := vm(t, instructions(theirs)), vm(t, instructions(own))
	operands := []uint32{0, 1, 2, math.MaxInt32, 1 << 31, math.MaxUint32}
	for _, each := range instructions(theirs) {
		operands = append(operands, each.K-1, each.K, each.K+1)
	}
	numbers := slices.Clone(operands)
	for number := range uint32(1024) {
		numbers = append(numbers, number, 1<<30|number)
	}
	random := rand.New(rand.NewPCG(7, 8))
	for _, audit := range []uint32{0xc000003e, 0x40000003, 0xc00000b7, 8} {
		for _, number := range numbers {
			for range 4 {
				var call [64]byte // words big-endian, as the VM reads them
				binary.BigEndian.PutUint32(call[0:], number)
				binary.BigEndian.PutUint32(call[4:], audit)
				for at := 8; at < len(call); at += 4 {
					binary.BigEndian.PutUint32(call[at:], operands[random.IntN(len(operands))])
				}
				first, err := wanted.Run(call[:])
				must(t, err)
				second, err := got.Run(call[:])
				must(t, err)
				if first != second {
					t.Fatalf("call %#x of %#x with %x is %#x instead of %#x", number, audit, call[8:], second, first)
				}
			}
		}
	}
}

// TestAnExecIsRefusedTheSystemCallsThatTheMainProcessIs has the kernel decide.
func TestAnExecIsRefusedTheSystemCallsThatTheMainProcessIs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the calls are those of x86")
	}
	needRuntime(t)
	program := filepath.Join(busyboxRoot(t), "bin/calls")
	build := exec.Command("go", "build", "-o", program, "./testdata/calls")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Cleanup(func() { os.Remove(program) })
	_, profile := dockerProfile(t)
	profile["defaultErrnoRet"] = 1234
	script := sh("grep -E '^Seccomp' /proc/self/status; calls && echo done")
	c := launch(t, launchOptions{args: append(slices.Clone(script[:2]), script[2]+"; sleep 1000"), config: func(config map[string]any) {
		config["linux"].(map[string]any)["seccomp"] = profile
	}})
	main := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	c.mustRun("a")
	main.until("done")
	s := c.exec("e", &agentv1.ProcessSpec{Args: script}).finish()
	s.expectExit(0)
	wanted, got := main.stdout.String(), s.stdout.String()
	if got != wanted {
		t.Errorf("the main process + and the exec -:\n%s", difference(wanted, got))
	}
	if !strings.Contains(got, "Seccomp:\t2\nSeccomp_filters:\t1\n") || strings.Count(got, ": 1234\n") < 300 {
		t.Errorf("what an exec is refused:\n%s", got)
	}
	main.vanish()
}
