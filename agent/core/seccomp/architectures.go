package seccomp

import (
	"embed"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tables are the numbers and names of system calls, a file for each ABI and a
// line for each call. They come from github.com/elastic/go-seccomp-bpf/arch,
// which as a package would fill maps of all of them whenever an agent starts.
//
//go:embed calls
var tables embed.FS

// abi is a kernel's set of system calls.
type abi struct {
	audit uint32 // AUDIT_ARCH_* constant, which the kernel shows to filters
	bit   uint32 // set in the numbers of its calls
	long  bool   // arguments have 64 bits
	// besideX32: the kernel reports x32's calls under the same architecture.
	besideX32 bool
	calls     map[string]uint32
	// multiplexed are calls that are also available through another one, which
	// takes their code as its first argument.
	multiplexed map[string]multiplexed
}

type multiplexed struct {
	through string
	code    uint64
}

// x32Bit marks the calls of programs with 32 bit pointers in a 64 bit processor mode.
const x32Bit = 0x40000000

// machine is a processor with the ABIs that its kernel may support; the first is
// the native one.
type machine []*namedABI

type namedABI struct {
	name string // of the OCI runtime specification
	abi
}

// machineOf returns the machine of a GOARCH; nil: unsupported.
func machineOf(goarch string) machine {
	switch goarch {
	case "amd64":
		x86 := abi{audit: unix.AUDIT_ARCH_I386, calls: numbers("i386"), multiplexed: multiplexedX86()}
		return machine{
			{"SCMP_ARCH_X86_64", abi{audit: unix.AUDIT_ARCH_X86_64, long: true, besideX32: true, calls: numbers("x86_64")}},
			{"SCMP_ARCH_X86", x86},
			{"SCMP_ARCH_X32", abi{audit: unix.AUDIT_ARCH_X86_64, bit: x32Bit, calls: numbersX32()}},
		}
	case "arm64":
		return machine{
			{"SCMP_ARCH_AARCH64", abi{audit: unix.AUDIT_ARCH_AARCH64, long: true, calls: numbersARM64()}},
			{"SCMP_ARCH_ARM", abi{audit: unix.AUDIT_ARCH_ARM, calls: numbers("arm")}},
		}
	}
	return nil
}

// numbers parses a table; for a repeated name the highest number counts.
func numbers(table string) map[string]uint32 {
	text, err := tables.ReadFile("calls/" + table)
	calls := map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		var of uint64
		if of, err = strconv.ParseUint(number, 10, 32); err != nil {
			break
		}
		calls[name] = max(calls[name], uint32(of))
	}
	if err != nil {
		panic(fmt.Sprintf("the table of system calls of %s: %v", table, err)) // it is part of the program
	}
	return calls
}

// notInX32 are calls in the table, shared by both modes, that x32 lacks.
var notInX32 = strings.Fields(`
	_sysctl create_module epoll_ctl_old epoll_wait_old get_kernel_syms get_thread_area map_shadow_stack nfsservctl
	query_module set_thread_area uretprobe uselib vserver`)

// numbersX32 prefers x32's own numbers (from 512 on) where the table has both.
func numbersX32() map[string]uint32 {
	calls := numbers("x32")
	for name := range calls {
		calls[name] |= x32Bit
	}
	for _, name := range notInX32 {
		delete(calls, name)
	}
	return calls
}

// numbersARM64 corrects the table, which was made from a file shared by several
// architectures.
func numbersARM64() map[string]uint32 {
	const firstTime64, lastTime64 = 403, 423 // for architectures with 32 bits
	calls := numbers("aarch64")
	calls["newfstatat"] = calls["fstatat"]
	maps.DeleteFunc(calls, func(name string, number uint32) bool {
		return name == "fstatat" || number >= firstTime64 && number <= lastTime64
	})
	return calls
}

// multiplexedX86 are the calls of socketcall(2) and ipc(2), by their codes.
func multiplexedX86() map[string]multiplexed {
	all := map[string]multiplexed{}
	for code, name := range []string{
		"", "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
		"sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	} {
		all[name] = multiplexed{"socketcall", uint64(code)}
	}
	for name, code := range map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	} {
		all[name] = multiplexed{"ipc", code}
	}
	delete(all, "")
	return all
}
