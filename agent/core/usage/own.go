package usage

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockerless/sockerless/agent/core/processes"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// OwnCgroup finds the cgroup of this process as its container sees it: in its own
// namespace, or with its directory mounted in place of the root group's.
func OwnCgroup() (Cgroup, error) {
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Cgroup{}, fmt.Errorf("find the control group: %w", err)
	}
	return parseCgroup(content, cgroupMount).shownIn(cgroupMount), nil
}

// shownIn replaces missing directories by the mounts' own.
func (c Cgroup) shownIn(mount string) Cgroup {
	shown := Cgroup{unified: c.unified, controllers: map[string]string{}}
	if shown.unified != "" && !exists(shown.unified) {
		shown.unified = mount
	}
	for controller, dir := range c.controllers {
		if !exists(dir) {
			dir = filepath.Join(mount, controller)
		}
		if exists(dir) {
			shown.controllers[controller] = dir
		}
	}
	return shown
}

// Readable reports whether the group's use can be read.
func (c Cgroup) Readable() bool {
	if c.unified != "" {
		return exists(filepath.Join(c.unified, "memory.current"))
	}
	return c.controllers["memory"] != "" && c.controllers["cpuacct"] != ""
}

// readDescendants adds up the use of a process's descendants, if no cgroup has
// it.
func readDescendants(of int, into *agentv1.StatsResponse) error {
	all, err := processes.Descendants(of)
	if err != nil {
		return err
	}
	for _, p := range all {
		into.Cpu.TotalUsageNs += (p.Ticks + p.WaitedFor) * nsPerTick
		into.Memory.Usage += p.Resident
		into.Pids.Current += uint64(p.Threads)
	}
	return nil
}
