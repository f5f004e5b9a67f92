// Package seccomp compiles a seccomp profile of OCI runtimes to the program that
// the kernel loads (seccomp(2)). The verdicts are those of runc, which uses
// libseccomp and puts its own rules before the result:
//
//   - a rule without conditions applies to all of a system call; if several
//     name it, the first one does;
//   - a system call above all that the profile names returns ENOSYS, unless the
//     profile's default permits unnamed calls, so that programs which try new
//     calls fall back to older ones;
//   - an architecture that the profile does not name kills.
//
// Anything in the profile that cannot be compiled is an error.
package seccomp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Values of a filter (SECCOMP_RET_*).
const (
	retKillThread  = 0x00000000
	retKillProcess = 0x80000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
	retData        = 0x0000ffff
)

// known are the architectures that OCI runtimes accept; only the machine's own
// matter.
var known = strings.Fields(`
	SCMP_ARCH_X86 SCMP_ARCH_X86_64 SCMP_ARCH_X32 SCMP_ARCH_ARM SCMP_ARCH_AARCH64 SCMP_ARCH_MIPS SCMP_ARCH_MIPS64
	SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 SCMP_ARCH_PPC SCMP_ARCH_PPC64
	SCMP_ARCH_PPC64LE SCMP_ARCH_RISCV64 SCMP_ARCH_S390 SCMP_ARCH_S390X`)

// actionOf returns the filter's return value for an action.
func actionOf(name string, errno *uint32) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = *errno & retData
	}
	switch name {
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return retKillThread, nil
	case "SCMP_ACT_KILL_PROCESS":
		return retKillProcess, nil
	case "SCMP_ACT_TRAP":
		return retTrap, nil
	case "SCMP_ACT_ERRNO":
		return retErrno | data, nil
	case "SCMP_ACT_TRACE":
		return retTrace | data, nil
	case "SCMP_ACT_LOG":
		return retLog, nil
	case "SCMP_ACT_ALLOW":
		return retAllow, nil
	case "SCMP_ACT_NOTIFY":
		return 0, errors.New("SCMP_ACT_NOTIFY is not possible: nobody listens")
	}
	return 0, fmt.Errorf("string %s is not a valid action for seccomp", name)
}

// flagsOf converts flags for seccomp(2). Threads need no synchronisation, because
// the thread that loads the filter executes the program.
func flagsOf(names []string) (uintptr, error) {
	var flags uintptr
	for _, name := range names {
		switch name {
		case "SECCOMP_FILTER_FLAG_LOG":
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case "SECCOMP_FILTER_FLAG_SPEC_ALLOW":
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
		default:
			return 0, fmt.Errorf("seccomp flag %s is not known", name)
		}
	}
	return flags, nil
}

// abisOf are the ABIs that the profile covers.
func abisOf(names []string, of machine) (machine, error) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("string %s is not a valid arch for seccomp", name)
		}
	}
	var chosen machine
	for i, each := range of {
		if i == 0 || slices.Contains(names, each.name) {
			chosen = append(chosen, each)
		}
	}
	return chosen, nil
}

// holds reports whether a rule applies to a kernel release ("6.1.0-13-amd64").
func holds(rule *agentv1.SeccompRule, kernel string) (bool, error) {
	if rule.MinKernel != "" {
		if reached, err := atLeast(kernel, rule.MinKernel); err != nil || !reached {
			return false, err
		}
	}
	if rule.BeforeKernel != "" {
		reached, err := atLeast(kernel, rule.BeforeKernel)
		return !reached, err
	}
	return true, nil
}

func atLeast(kernel, minimum string) (bool, error) {
	has, err := kernelVersion(kernel)
	if err != nil {
		return false, err
	}
	needs, err := kernelVersion(minimum)
	if err != nil {
		return false, err
	}
	return slices.Compare(has[:], needs[:]) >= 0, nil
}

// kernelVersion parses the first two numbers of a kernel's release.
func kernelVersion(kernel string) (version [2]uint64, err error) {
	parts := strings.FieldsFunc(kernel, func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	if len(parts) < len(version) {
		return version, fmt.Errorf("%q is no kernel version", kernel)
	}
	for i := range version {
		if version[i], err = strconv.ParseUint(parts[i], 10, 32); err != nil {
			return version, fmt.Errorf("%q is no kernel version: %w", kernel, err)
		}
	}
	return version, nil
}
