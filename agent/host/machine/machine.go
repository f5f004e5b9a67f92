// Package machine reports what the machine offers to containers.
package machine

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Features of the kernel and its set-up.
type Features struct {
	CgroupVersion     string   // "1" or "2"
	CgroupControllers []string // usable ones
	Seccomp           bool
	AppArmor          bool
	SELinux           bool
}

const cgroupRoot = "/sys/fs/cgroup"

// Inspect reads the features.
func Inspect() (Features, error) {
	var features Features
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil {
		return features, &os.PathError{Op: "statfs", Path: cgroupRoot, Err: err}
	}
	var err error
	if stat.Type == unix.CGROUP2_SUPER_MAGIC {
		features.CgroupVersion = "2"
		features.CgroupControllers, err = unifiedControllers()
	} else {
		features.CgroupVersion = "1"
		features.CgroupControllers, err = mountedControllers()
	}
	if err != nil {
		return features, err
	}
	features.Seccomp = exists("/proc/sys/kernel/seccomp/actions_avail")
	features.AppArmor = hasAppArmor("/sys")
	features.SELinux = exists("/sys/fs/selinux/enforce")
	return features, nil
}

// hasAppArmor reports whether the kernel confines processes by AppArmor's
// profiles.
func hasAppArmor(sys string) bool {
	enabled, _ := os.ReadFile(filepath.Join(sys, "module/apparmor/parameters/enabled"))
	return bytes.HasPrefix(enabled, []byte("Y"))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func unifiedControllers() ([]string, error) {
	content, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return strings.Fields(string(content)), err
}

// mountedControllers lists the version 1 hierarchies' controllers.
func mountedControllers() ([]string, error) {
	table, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return nil, err
	}
	var controllers []string
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		// name, hierarchy, number of cgroups, enabled
		fields := strings.Fields(lines.Text())
		if len(fields) == 4 && fields[3] == "1" && isMounted(fields[0]) {
			controllers = append(controllers, fields[0])
		}
	}
	return controllers, lines.Err()
}

func isMounted(controller string) bool {
	var stat unix.Statfs_t
	err := unix.Statfs(filepath.Join(cgroupRoot, controller), &stat)
	return err == nil && stat.Type == unix.CGROUP_SUPER_MAGIC
}

// ResolvConf is the machine's resolver configuration; empty if there is none.
func ResolvConf() ([]byte, error) {
	content, err := os.ReadFile("/etc/resolv.conf")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return content, err
}
