// Package memory keeps an agent small. One runs beside every container, mostly
// idle, so what a bulk transfer needed is given back to the machine after it.
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
	// threshold is how much has to move before giving back is worth a collection.
	threshold = 4 << 20
	// quiet is how long nothing may move before memory is given back.
	quiet = time.Second
	// maxThreads is enough to keep a container's streams busy.
	maxThreads = 4
	// gcPercent trades a little time for a smaller heap.
	gcPercent = 50
	// firstPercent puts the first collection of a small process off until it has
	// 4 MiB, the least in the Go runtime: what a start leaves behind is less than
	// what the collector itself needs from then on.
	firstPercent = 100
	small        = 4 << 20
	// youthful is how much a process may hold before its first collections come: a
	// container that is done by then, as most are, pays for none.
	youthful = 32 << 20
	// youth is how long that lasts.
	youth = time.Second
)

var (
	moved atomic.Int64
	armed atomic.Bool
)

// BeSmall tunes the Go runtime for a process that is idle most of the time, once
// it has started.
func BeSmall() {
	debug.SetMemoryLimit(youthful)
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(min(maxThreads, runtime.GOMAXPROCS(0)))
	time.AfterFunc(youth, grow)
}

func grow() {
	debug.SetMemoryLimit(math.MaxInt64)
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // runtime.ReadMemStats would leave 0.3 MB behind
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

// GiveBackSoon gives memory back that is not needed any more, if the process is
// still there in a moment.
func GiveBackSoon() { time.AfterFunc(quiet, debug.FreeOSMemory) }

// Moved says that so many bytes of a stream went through this process.
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
