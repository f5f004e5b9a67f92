package usage

import (
	"strings"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// nsPerMicrosecond is the unit of version 2's processor times.
const nsPerMicrosecond = 1000

// readV2 reads the counters of cgroup version 2 (kernel: cgroup-v2.rst).
func (c Cgroup) readV2(into *agentv1.StatsResponse) (err error) {
	dir := c.unified
	times, err := numbers(dir, "cpu.stat")
	if err != nil {
		return err
	}
	into.Cpu.TotalUsageNs = times["usage_usec"] * nsPerMicrosecond
	into.Cpu.KernelNs = times["system_usec"] * nsPerMicrosecond
	into.Cpu.UserNs = times["user_usec"] * nsPerMicrosecond
	into.Cpu.Periods = times["nr_periods"]
	into.Cpu.ThrottledPeriods = times["nr_throttled"]
	into.Cpu.ThrottledNs = times["throttled_usec"] * nsPerMicrosecond

	for name, value := range map[string]*uint64{
		"memory.current": &into.Memory.Usage,
		"memory.max":     &into.Memory.Limit,
		"pids.current":   &into.Pids.Current,
		"pids.max":       &into.Pids.Limit,
	} {
		if *value, err = number(dir, name); err != nil {
			return err
		}
	}
	if into.Memory.Stats, err = numbers(dir, "memory.stat"); err != nil {
		return err
	}
	// Docker shows the group's OOM events as failures.
	events, err := numbers(dir, "memory.events")
	if err != nil {
		return err
	}
	into.Memory.Failures = events["oom"]
	return eachLine(dir, "io.stat", func(fields []string) error {
		return blockV2(into, fields)
	})
}

// blockV2 parses a line "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0".
func blockV2(into *agentv1.StatsResponse, fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	values := map[string]string{"rbytes": "0", "wbytes": "0"}
	for _, field := range fields[1:] {
		name, value, _ := strings.Cut(field, "=")
		values[name] = value
	}
	for _, each := range []struct{ op, value string }{{"read", values["rbytes"]}, {"write", values["wbytes"]}} {
		entry, err := blockEntry("service_bytes", fields[0], each.op, each.value)
		if err != nil {
			return err
		}
		into.BlockIo = append(into.BlockIo, entry)
	}
	return nil
}
