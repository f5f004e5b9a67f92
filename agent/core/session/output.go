package session

import (
	"slices"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/memory"
)

// outputs distributes what one process writes: to the log (the main process's)
// and to the interested sessions.
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

// connect starts to move the output of a started process.
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

// subscribe adds a reader of all output from now on. mark, if any, is called at
// exactly the reader's position in the record.
func (o *outputs) subscribe(r reader, mark func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if mark != nil {
		mark()
	}
	o.readers = append(slices.Clip(o.readers), r)
}

// unsubscribe releases a reader at once, even one that output waits for.
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

// drain is called when the process has ended. It returns once all of the
// process's output is recorded and in the readers' queues.
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

// recordIn returns a record function that appends to a log. An unwritable log
// (disk full) does not stop the process or its sessions; the first error is
// reported.
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
