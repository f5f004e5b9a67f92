package shim

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// capabilityNames are Linux' capabilities by number, up to Linux 6.
var capabilityNames = strings.Fields(`
	CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
	CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE
	CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK
	CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE
	CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE
	CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE
	CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
	CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF
	CAP_CHECKPOINT_RESTORE`)

// allCapabilities are those that this process can hand on: a machine that is
// itself confined may lack some, and a runtime refuses what it cannot give.
func allCapabilities() ([]string, error) {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		value, found := strings.CutPrefix(lines.Text(), "CapPrm:")
		if !found {
			continue
		}
		held, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("parse own capabilities: %w", err)
		}
		var names []string
		for number, name := range capabilityNames {
			if held&(1<<number) != 0 {
				names = append(names, name)
			}
		}
		return names, nil
	}
	return nil, fmt.Errorf("own capabilities are not in /proc/self/status")
}
