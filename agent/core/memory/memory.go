// Package memory keeps an agent small. One runs beside every container, mostly
// idle, so it returns a bulk transfer's memory to the machine afterwards.
package memory

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// threshold is how many bytes must move before a collection pays.
	threshold = 4 << 20
	// quiet is how long nothing may move before memory is released.
	quiet = time.Second
	// maxThreads is enough to keep a container's streams busy.
	maxThreads = 4
	// gcPercent trades a little time for a smaller heap.
	gcPercent = 50
	// firstPercent delays the first collection of a small process to 4 MiB, the
	// Go runtime's minimum: startup leaves less garbage than the collector itself
	// uses once it has run.
	firstPercent = 100
	small        = 4 << 20
	// youthful is the heap size below which a young process is not collected: a
	// container that ends by then, as most do, pays for no collection.
	youthful = 32 << 20
	// youth is how long youthful applies.
	youth = time.Second
)

var (
	moved atomic.Int64
	armed atomic.Bool
)

// BeSmall tunes the Go runtime of a started process that is mostly idle.
func BeSmall() {
	debug.SetMemoryLimit(youthful)
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(min(maxThreads, runtime.GOMAXPROCS(0)))
	time.AfterFunc(youth, grow)
}

func grow() {
	debug.SetMemoryLimit(math.MaxInt64)
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // runtime.ReadMemStats would cost 0.3 MB for good
	if metrics.Read(heap); heap[0].Value.Uint64() < small {
		runtime.AddCleanup(new(*byte), settle, gcPercent) // at the first collection
		debug.SetGCPercent(firstPercent)
		return
	}
	settle(gcPercent)
}

func settle(percent int) {
	debug.SetGCPercent(percent)
	debug.FreeOSMemory()
}

// GiveBackSoon releases unused memory shortly, if the process still runs then.
func GiveBackSoon() { time.AfterFunc(quiet, debug.FreeOSMemory) }

// Moved counts bytes of a stream that passed through this process.
func Moved(bytes int) {
	if moved.Add(int64(bytes)) > threshold && armed.CompareAndSwap(false, true) {
		time.AfterFunc(quiet, func() { giveBackWhenQuiet(moved.Load()) })
	}
}

func giveBackWhenQuiet(before int64) {
	if now := moved.Load(); now != before {
		time.AfterFunc(quiet, func() { giveBackWhenQuiet(now) })
		return
	}
	moved.Store(0)
	armed.Store(false)
	runtime.GC() // pooled buffers survive one collection
	debug.FreeOSMemory()
}
