package usage

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Meter measures the use of one container.
type Meter struct {
	Cgroup Cgroup
	// NetworkOf is a process in the container's network namespace; 0: the
	// container shares the machine's, whose traffic is not its own.
	NetworkOf int
	// DescendantsOf, if set, is a process whose descendants' use is added up,
	// because there is no usable cgroup.
	DescendantsOf int
	// Ended is closed when the container's main process has ended.
	Ended <-chan struct{}
}

// Done is closed when the main process has ended.
func (m Meter) Done() <-chan struct{} { return m.Ended }

// Read takes a reading. fs.ErrNotExist means that the container is gone.
func (m Meter) Read() (*agentv1.StatsResponse, error) {
	reading := &agentv1.StatsResponse{
		Read: timestamppb.Now(), Cpu: &agentv1.CpuStats{}, Memory: &agentv1.MemoryStats{}, Pids: &agentv1.PidsStats{},
	}
	if err := m.readUse(reading); err != nil {
		return nil, fmt.Errorf("read resource use: %w", err)
	}
	// Right after the container's own, since the two are compared.
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read the machine's processor time: %w", err)
	}
	if reading.Cpu.SystemNs, reading.Cpu.OnlineCpus, err = machineProcessors(machine); err != nil {
		return nil, fmt.Errorf("/proc/stat: %w", err)
	}
	machine, err = os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read the machine's memory: %w", err)
	}
	total := machineMemory(machine)
	if limit := reading.Memory.Limit; total > 0 && (limit == 0 || limit > total) {
		reading.Memory.Limit = total
	}
	if m.NetworkOf == 0 {
		return reading, nil
	}
	interfaces, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", m.NetworkOf))
	if err != nil {
		return nil, fmt.Errorf("read network use: %w", err)
	}
	reading.Networks, err = networkUse(interfaces)
	return reading, err
}

func (m Meter) readUse(into *agentv1.StatsResponse) error {
	if m.DescendantsOf != 0 {
		return readDescendants(m.DescendantsOf, into)
	}
	return m.Cgroup.read(into)
}

func (c Cgroup) read(into *agentv1.StatsResponse) error {
	dir, err := c.directory()
	if err != nil {
		return err
	}
	// A removed group has no files, which would read as zeros.
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if c.unified == "" {
		return c.readV1(into)
	}
	return c.readV2(into)
}

// machineProcessors parses /proc/stat: the machine's time in ns, idle included,
// and the number of its processors. As in Docker, guests' time is not added,
// since user time includes it.
func machineProcessors(stat []byte) (ns uint64, online uint32, err error) {
	for line := range bytes.Lines(stat) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "cpu") {
			break // they are the first lines
		}
		if fields[0] != "cpu" {
			online++
			continue
		}
		if len(fields) < 8 {
			return 0, 0, fmt.Errorf("only %d processor times", len(fields)-1)
		}
		for _, field := range fields[1:8] {
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			ns += ticks * nsPerTick
		}
	}
	return ns, online, nil
}

// machineMemory parses /proc/meminfo: bytes; 0 if unknown.
func machineMemory(info []byte) uint64 {
	for line := range bytes.Lines(info) {
		fields := strings.Fields(string(line))
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}

// networkUse parses /proc/PID/net/dev, whose first two lines are titles. Loopback
// does not count.
func networkUse(table []byte) (map[string]*agentv1.NetworkStats, error) {
	use := map[string]*agentv1.NetworkStats{}
	for line := range bytes.Lines(table) {
		name, counters, isInterface := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !isInterface || name == "lo" {
			continue
		}
		fields := strings.Fields(counters)
		if len(fields) < 12 {
			return nil, fmt.Errorf("interface %s has only %d counters", name, len(fields))
		}
		// receive: bytes packets errs drop fifo frame compressed multicast; transmit: the same from 8 on
		stats := &agentv1.NetworkStats{}
		for column, counter := range map[int]*uint64{
			0: &stats.RxBytes, 1: &stats.RxPackets, 2: &stats.RxErrors, 3: &stats.RxDropped,
			8: &stats.TxBytes, 9: &stats.TxPackets, 10: &stats.TxErrors, 11: &stats.TxDropped,
		} {
			value, err := strconv.ParseUint(fields[column], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("interface %s: %w", name, err)
			}
			*counter = value
		}
		use[name] = stats
	}
	return use, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
