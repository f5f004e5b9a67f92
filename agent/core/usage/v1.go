package usage

import (
	"path/filepath"
	"strconv"
	"strings"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// nsPerTick is the unit of cpuacct.stat and /proc/stat: USER_HZ is 100 on every
// architecture that Go runs on.
const nsPerTick = 1e9 / 100

// readV1 reads the counters of cgroup version 1 (kernel: cgroup-v1/*.rst).
func (c Cgroup) readV1(into *agentv1.StatsResponse) error {
	for _, read := range []func(*agentv1.StatsResponse) error{
		c.processorsV1, c.memoryV1, c.pidsV1, c.blockV1,
	} {
		if err := read(into); err != nil {
			return err
		}
	}
	return nil
}

func (c Cgroup) processorsV1(into *agentv1.StatsResponse) error {
	dir := c.controllers["cpuacct"]
	if dir == "" {
		return nil
	}
	var err error
	if into.Cpu.TotalUsageNs, err = number(dir, "cpuacct.usage"); err != nil {
		return err
	}
	err = eachLine(dir, "cpuacct.usage_percpu", func(fields []string) error {
		for _, field := range fields {
			ns, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return err
			}
			into.Cpu.PerCpuUsageNs = append(into.Cpu.PerCpuUsageNs, ns)
		}
		return nil
	})
	if err != nil {
		return err
	}
	ticks, err := numbers(dir, "cpuacct.stat")
	if err != nil {
		return err
	}
	into.Cpu.KernelNs, into.Cpu.UserNs = ticks["system"]*nsPerTick, ticks["user"]*nsPerTick
	throttled, err := numbers(c.controllers["cpu"], "cpu.stat")
	into.Cpu.Periods = throttled["nr_periods"]
	into.Cpu.ThrottledPeriods = throttled["nr_throttled"]
	into.Cpu.ThrottledNs = throttled["throttled_time"]
	return err
}

func (c Cgroup) memoryV1(into *agentv1.StatsResponse) (err error) {
	dir := c.controllers["memory"]
	if dir == "" {
		return nil
	}
	for name, value := range map[string]*uint64{
		"memory.usage_in_bytes":     &into.Memory.Usage,
		"memory.max_usage_in_bytes": &into.Memory.MaxUsage,
		"memory.failcnt":            &into.Memory.Failures,
		"memory.limit_in_bytes":     &into.Memory.Limit,
	} {
		if *value, err = number(dir, name); err != nil {
			return err
		}
	}
	into.Memory.Stats, err = numbers(dir, "memory.stat")
	return err
}

func (c Cgroup) pidsV1(into *agentv1.StatsResponse) (err error) {
	dir := c.controllers["pids"]
	if dir == "" {
		return nil
	}
	if into.Pids.Current, err = number(dir, "pids.current"); err != nil {
		return err
	}
	into.Pids.Limit, err = number(dir, "pids.max")
	return err
}

// blockV1 prefers the counters of whole subtrees; older kernels only have the
// group's own.
func (c Cgroup) blockV1(into *agentv1.StatsResponse) error {
	dir := c.controllers["blkio"]
	if dir == "" {
		return nil
	}
	for kind, name := range map[string]string{
		"service_bytes": "blkio.throttle.io_service_bytes",
		"serviced":      "blkio.throttle.io_serviced",
	} {
		if exists(filepath.Join(dir, name+"_recursive")) {
			name += "_recursive"
		}
		err := eachLine(dir, name, func(fields []string) error {
			// "8:0 Read 4096"; the last line is "Total 4096"
			if len(fields) != 3 {
				return nil
			}
			entry, err := blockEntry(kind, fields[0], fields[1], fields[2])
			into.BlockIo = append(into.BlockIo, entry)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// blockEntry builds an entry from a device "major:minor" and a value.
func blockEntry(kind, device, op, value string) (*agentv1.BlockIoEntry, error) {
	entry := &agentv1.BlockIoEntry{Kind: kind, Op: op}
	major, minor, _ := strings.Cut(device, ":")
	var err error
	if entry.Major, err = strconv.ParseUint(major, 10, 64); err != nil {
		return nil, err
	}
	if entry.Minor, err = strconv.ParseUint(minor, 10, 64); err != nil {
		return nil, err
	}
	entry.Value, err = strconv.ParseUint(value, 10, 64)
	return entry, err
}
