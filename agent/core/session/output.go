package session

import (
	"slices"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/memory"
)

// outputs is what one process writes: recorded in the log (the main process's)
// and fanned out to the sessions that want it.
type outputs struct {
	record  func(s stream, at time.Time, data []byte) // nil: not recorded
	pumps   []*pump
	mu      sync.Mutex
	readers []reader // replaced, never changed in place
}

type reader struct {
	queue *queue
	wants [2]bool // by stream
}

// connect begins to move the output of a process that has just been started.
func (o *outputs) connect(stdio Stdio) {
	if stdio.Terminal != nil {
		o.pumps = append(o.pumps, startPump(stdio.Terminal, stdout, o.deliver))
	}
	if stdio.Stdout != nil {
		o.pumps = append(o.pumps, startPump(stdio.Stdout, stdout, o.deliver))
	}
	if stdio.Stderr != nil {
		o.pumps = append(o.pumps, startPump(stdio.Stderr, stderr, o.deliver))
	}
}

// subscribe adds a reader of everything that comes from now on. mark, if any,
// is called at the very place in the record where the reader begins.
func (o *outputs) subscribe(r reader, mark func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if mark != nil {
		mark()
	}
	o.readers = append(slices.Clip(o.readers), r)
}

// unsubscribe lets go of a reader at once, also one that output waits for.
func (o *outputs) unsubscribe(q *queue) {
	q.close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readers = slices.DeleteFunc(slices.Clone(o.readers), func(r reader) bool { return r.queue == q })
}

func (o *outputs) deliver(s stream, data []byte, unlimited func() bool) {
	memory.Moved(len(data))
	o.mu.Lock()
	if o.record != nil {
		o.record(s, time.Now(), data)
	}
	readers := o.readers
	o.mu.Unlock()
	for _, r := range readers {
		if r.wants[s] {
			r.queue.push(s, data, unlimited)
		}
	}
}

// drain is called when the process has ended. It returns once every byte that
// the process wrote is recorded and in the readers' queues.
func (o *outputs) drain() {
	for _, p := range o.pumps {
		p.processExited()
	}
	o.mu.Lock()
	readers := o.readers
	o.mu.Unlock()
	for _, r := range readers {
		r.queue.awaken()
	}
	for _, p := range o.pumps {
		<-p.drained
	}
}

// recordIn gives a record function that appends to a log. A log that cannot be
// written (disk full) does not stop the process or its sessions; the first
// error is reported.
func recordIn(writer *log.Writer, report func(error)) func(stream, time.Time, []byte) {
	if writer == nil {
		return nil
	}
	failing := false
	return func(s stream, at time.Time, data []byte) {
		to := log.Stdout
		if s == stderr {
			to = log.Stderr
		}
		err := writer.Append(to, at, data)
		if err != nil && !failing {
			report(err)
		}
		failing = err != nil
	}
}
