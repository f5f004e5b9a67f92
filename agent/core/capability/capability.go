// Package capability names Linux' capabilities and reads those of this process.
package capability

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities, one bit each.
type Set uint64

// names by number, up to Linux 6.
var names = strings.Fields(`
	CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
	CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE
	CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK
	CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE
	CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE
	CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE
	CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
	CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF
	CAP_CHECKPOINT_RESTORE`)

// DockerDefault is the set that Docker grants a container by default.
const DockerDefault Set = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL | 1<<unix.CAP_AUDIT_WRITE

// Parse reads names such as "CAP_CHOWN".
func Parse(list []string) (Set, error) {
	var set Set
next:
	for _, name := range list {
		for number, known := range names {
			if name == known {
				set |= 1 << number
				continue next
			}
		}
		return 0, fmt.Errorf("unknown capability %q", name)
	}
	return set, nil
}

// Names lists the capabilities of a set in the order of their numbers.
func (s Set) Names() []string {
	var list []string
	for number := range 64 {
		if s&(1<<number) == 0 {
			continue
		}
		if number < len(names) {
			list = append(list, names[number])
		} else {
			list = append(list, fmt.Sprintf("CAP_%d", number))
		}
	}
	return list
}

// Has reports whether the set holds a capability, such as unix.CAP_CHOWN.
func (s Set) Has(number int) bool { return s&(1<<number) != 0 }

// Effective returns the calling thread's effective capabilities.
func Effective() (Set, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read own capabilities: %w", err)
	}
	return Set(data[0].Effective) | Set(data[1].Effective)<<32, nil
}

// Bounding returns the limit of what this process and its children can ever hold.
func Bounding() (Set, error) {
	var set Set
	for number := range 64 {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0)
		if err == unix.EINVAL {
			break // past the kernel's last
		}
		if err != nil {
			return 0, fmt.Errorf("read the capability bounding set: %w", err)
		}
		if held == 1 {
			set |= 1 << number
		}
	}
	return set, nil
}

// Apply sets the calling thread's effective and permitted capabilities to set,
// and clears the inheritable and ambient ones.
func Apply(set Set) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(set), uint32(set>>32)
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	return nil
}
