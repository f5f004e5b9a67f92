package usage

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	assert.NilError(t, err)
	return content
}

func empty() *agentv1.StatsResponse {
	return &agentv1.StatsResponse{Cpu: &agentv1.CpuStats{}, Memory: &agentv1.MemoryStats{}, Pids: &agentv1.PidsStats{}}
}

func mustEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func byOperation(entries []*agentv1.BlockIoEntry, kind string) map[string]uint64 {
	found := map[string]uint64{}
	for _, entry := range entries {
		if entry.Kind == kind && entry.Major == 8 && entry.Minor == 0 {
			found[entry.Op] = entry.Value
		}
	}
	return found
}

func TestVersion1HasACounterFileForEachThing(t *testing.T) {
	group := Cgroup{controllers: map[string]string{}}
	for _, controller := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		group.controllers[controller] = filepath.Join("testdata/v1", controller)
	}
	got := empty()
	assert.NilError(t, group.read(got))
	mustEqual(t, got.Cpu, &agentv1.CpuStats{
		TotalUsageNs: 389782218, PerCpuUsageNs: []uint64{102209115, 289912841},
		KernelNs: 10_000_000, UserNs: 380_000_000,
		Periods: 20, ThrottledPeriods: 19, ThrottledNs: 1309693262,
	})
	mustEqual(t, got.Pids, &agentv1.PidsStats{Current: 2, Limit: 50})
	memory := got.Memory
	if memory.Usage != 1732608 || memory.MaxUsage != 1794048 || memory.Limit != 64<<20 || memory.Stats["total_inactive_file"] != 36864 {
		t.Error(memory)
	}
	want := map[string]uint64{"Read": 4194304, "Write": 8192, "Sync": 4202496, "Async": 0, "Discard": 0, "Total": 4202496}
	if bytes := byOperation(got.BlockIo, "service_bytes"); !maps.Equal(bytes, want) {
		t.Error(bytes)
	}
	if counts := byOperation(got.BlockIo, "serviced"); counts["Read"] != 64 || counts["Total"] != 66 {
		t.Error(counts)
	}
}

func TestVersion2CountsInOneDirectory(t *testing.T) {
	got := empty()
	assert.NilError(t, (Cgroup{unified: "testdata/v2"}).read(got))
	mustEqual(t, got.Cpu, &agentv1.CpuStats{
		TotalUsageNs: 389_782_000, KernelNs: 37_672_000, UserNs: 352_110_000,
		Periods: 20, ThrottledPeriods: 19, ThrottledNs: 1_309_693_000,
	})
	mustEqual(t, got.Pids, &agentv1.PidsStats{Current: 2})
	if got.Memory.Usage != 1732608 || got.Memory.Limit != 0 || got.Memory.Failures != 3 || got.Memory.Stats["inactive_file"] != 36864 {
		t.Error(got.Memory)
	}
	if bytes := byOperation(got.BlockIo, "service_bytes"); !maps.Equal(bytes, map[string]uint64{"read": 4194304, "write": 8192}) {
		t.Error(bytes)
	}
}

func TestAGroupThatIsGoneHasNoReading(t *testing.T) {
	for _, group := range []Cgroup{
		{unified: "testdata/gone"},
		{controllers: map[string]string{"memory": "testdata/gone"}},
	} {
		assert.Check(t, is.ErrorIs(group.read(empty()), fs.ErrNotExist))
	}
}

func TestTheControlGroupIsFoundInEveryLayout(t *testing.T) {
	hybrid := parseCgroup([]byte("4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/y\n0::/z\n"), "/cg")
	want := map[string]string{"memory": "/cg/memory/docker/x", "cpu": "/cg/cpu/docker/x", "cpuacct": "/cg/cpuacct/docker/x"}
	if hybrid.unified != "" || !maps.Equal(hybrid.controllers, want) {
		t.Error(hybrid)
	}
	if unified := parseCgroup([]byte("0::/docker/x\n"), "/cg"); unified.unified != "/cg/docker/x" {
		t.Error(unified)
	}
}

func TestProcessesOfGroupsBeneathCount(t *testing.T) {
	pids, err := Cgroup{unified: "testdata/v2"}.Processes()
	if err != nil || !slices.Equal(pids, []int{7, 9, 12}) {
		t.Fatal(pids, err)
	}
}

func TestProcessorTimeOfTheMachineLeavesGuestsOut(t *testing.T) {
	ns, online, err := machineProcessors(recorded(t, "proc-stat"))
	if err != nil || online != 2 || ns != (225992+18996+180703+500460+3510+0+1587)*nsPerTick {
		t.Fatal(ns, online, err)
	}
}

func TestNetworkUseLeavesLoopbackOut(t *testing.T) {
	use, err := networkUse(recorded(t, "net-dev"))
	if err != nil || len(use) != 1 {
		t.Fatal(use, err)
	}
	mustEqual(t, use["eth0"], &agentv1.NetworkStats{
		RxBytes: 1688576219, RxPackets: 61963, RxErrors: 1, RxDropped: 2,
		TxBytes: 4845152, TxPackets: 44520, TxErrors: 3, TxDropped: 4,
	})
}

func TestAReadingOfOurselvesHasTheMachinesBounds(t *testing.T) {
	group, err := CgroupOf(os.Getpid())
	assert.NilError(t, err)
	reading, err := Meter{Cgroup: group, NetworkOf: os.Getpid()}.Read()
	assert.NilError(t, err)
	if reading.Cpu.SystemNs == 0 || reading.Cpu.OnlineCpus == 0 || reading.Memory.Limit == 0 || reading.Read == nil {
		t.Error(reading)
	}
}
