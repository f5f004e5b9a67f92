// Package usage measures the resource use of one container: its cgroup's counters
// (version 1 or 2), its network interfaces', and the machine's processor time for
// comparison.
package usage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroupMount is the mount point of the kernel's cgroups.
const cgroupMount = "/sys/fs/cgroup"

// Cgroup locates the counters of one cgroup. The directories outlive its
// processes, until their creator removes them.
type Cgroup struct {
	unified     string            // directory in version 2; empty: version 1
	controllers map[string]string // version 1: directory by controller
}

// CgroupOf finds the cgroup of a live process; an ended one is in the root group.
func CgroupOf(pid int) (Cgroup, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Cgroup{}, fmt.Errorf("find the control group: %w", err)
	}
	return parseCgroup(content, cgroupMount), nil
}

// parseCgroup parses cgroups(7)'s /proc/PID/cgroup. Controllers of version 1 take
// precedence: in the hybrid layout version 2 has none.
func parseCgroup(content []byte, mount string) Cgroup {
	group := Cgroup{controllers: map[string]string{}}
	unified := ""
	for line := range bytes.Lines(content) {
		// hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "" {
			unified = filepath.Join(mount, parts[2])
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if !strings.HasPrefix(controller, "name=") {
				group.controllers[controller] = filepath.Join(mount, controller, parts[2])
			}
		}
	}
	if len(group.controllers) == 0 {
		group.unified = unified
	}
	return group
}

// Processes are the PIDs in the group and the groups beneath it, ascending.
func (c Cgroup) Processes() ([]int, error) {
	root, err := c.directory()
	if err != nil {
		return nil, err
	}
	var pids []int
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			return nil
		}
		found, err := readProcesses(filepath.Join(path, "cgroup.procs"))
		pids = append(pids, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the container's processes: %w", err)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// directory is one of the group's directories: version 1 has one for each
// controller, and they come and go together.
func (c Cgroup) directory() (string, error) {
	if c.unified != "" {
		return c.unified, nil
	}
	for _, controller := range []string{"pids", "memory", "cpuacct", "devices", "freezer"} {
		if dir := c.controllers[controller]; dir != "" {
			return dir, nil
		}
	}
	return "", errors.New("the container has no control group of its own")
}

func readProcesses(name string) ([]int, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range bytes.Lines(content) {
		pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if pid > 0 { // 0: not of our PID namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// number reads a file with one number. No limit ("max") and a file missing from
// this kernel are 0.
func number(dir, name string) (uint64, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text := string(bytes.TrimSpace(content))
	if text == "max" || text == "" {
		return 0, nil
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// numbers reads a file of lines "key value". A missing file has none.
func numbers(dir, name string) (map[string]uint64, error) {
	values := map[string]uint64{}
	err := eachLine(dir, name, func(fields []string) error {
		if len(fields) != 2 {
			return nil
		}
		value, err := strconv.ParseUint(fields[1], 10, 64)
		values[fields[0]] = value
		return err
	})
	return values, err
}

// eachLine calls visit with each line's fields. A missing file has no lines.
func eachLine(dir, name string, visit func(fields []string) error) error {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if err := visit(strings.Fields(lines.Text())); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return lines.Err()
}
