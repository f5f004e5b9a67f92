package memory_test

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// collections counts the runtime's collections.
func collections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumGC
}

// sink keeps allocations from being optimised away.
var sink []byte

func TestTheFirstCollectionComesAfterTheStart(t *testing.T) {
	before := collections()
	memory.BeSmall()
	for range 128 {
		sink = make([]byte, 128<<10) // 16 MiB in all: several collections of a small heap
	}
	now := collections()
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		t.Skip("this machine took longer than a start may")
	}
	if now != before {
		t.Errorf("%d collections while the process starts", now-before)
	}
	for debug.SetMemoryLimit(-1) != math.MaxInt64 || collections() == before {
		time.Sleep(time.Millisecond)
	}
	// From now on the heap is kept small.
	before = collections()
	for range 128 {
		sink = make([]byte, 128<<10)
	}
	assert.Check(t, collections() != before, "no collection of 16 MiB that nobody holds")
}

// asSmallProcess marks the process of TestASmallProcessIsCollectedOnceItGrows.
const asSmallProcess = "SMALL_PROCESS"

func TestASmallProcessIsCollectedOnceItGrows(t *testing.T) {
	if os.Getenv(asSmallProcess) == "" {
		self := exec.Command(os.Args[0], "-test.run=^TestASmallProcessIsCollectedOnceItGrows$")
		self.Env = append(os.Environ(), asSmallProcess+"=1", "GOGC=off")
		if output, err := self.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		return
	}
	goroutines := runtime.NumGoroutine()
	memory.BeSmall()
	for debug.SetMemoryLimit(-1) != math.MaxInt64 || percent() > 100 || runtime.NumGoroutine() > goroutines {
		time.Sleep(time.Millisecond)
	}
	if now := collections(); now != 0 {
		t.Errorf("%d collections of a small process", now)
	}
	for range 64 {
		sink = make([]byte, 128<<10) // 8 MiB in all
	}
	assert.Check(t, collections() != 0, "no collection of 8 MiB that nobody holds")
	for percent() != 50 {
		time.Sleep(time.Millisecond)
	}
}

// percent is the collector's setting; off counts as above any.
func percent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
