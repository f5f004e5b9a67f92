package memory_test

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/core/memory"
)

// collections counts those that the runtime has begun.
func collections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumGC
}

// sink keeps allocations from being left out.
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
	if collections() == before {
		t.Error("no collection of 16 MiB that nobody holds")
	}
}
