package containerinit

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// What stands before a line of the output that the platform collects, and tells
// whose it is. A line of stdout has a mark only where it would be taken for
// another's without one.
const (
	stdoutMark = "[stdout] "
	stderrMark = "[stderr] "
	agentMark  = "[sockerless] "
)

// teeLineLimit bounds a line: what is longer is cut into several.
const teeLineLimit = 64 << 10

// platformOutput is where the platform collects the container's output.
type platformOutput struct {
	out   io.Writer
	tees  sync.WaitGroup
	mu    sync.Mutex // one run at a time
	lines lineWriter
}

// follow copies the output of a run that is about to start. The session holds
// the process back, and nobody else, while the platform does not take it.
func (p *platformOutput) follow(run *session.Session) {
	p.tees.Add(1)
	go func() {
		defer p.tees.Done()
		defer run.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.copy(run)
	}()
}

func (p *platformOutput) copy(run *session.Session) {
	for {
		message, err := run.Next(context.Background())
		if err != nil { // its end
			// A platform that takes no more output changes nothing for the process.
			_, _ = p.out.Write(p.lines.finish())
			return
		}
		if output := message.GetStdout(); output != nil {
			_, _ = p.out.Write(p.lines.take(agentv1.Stream_STREAM_STDOUT, output.Data))
		}
		if output := message.GetStderr(); output != nil {
			_, _ = p.out.Write(p.lines.take(agentv1.Stream_STREAM_STDERR, output.Data))
		}
	}
}

// wait waits until all that was followed has been taken.
func (p *platformOutput) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		p.tees.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lineWriter makes marked, whole lines of two streams' output.
type lineWriter struct {
	begun [3][]byte // by stream: of a line whose end has not come
	out   []byte
}

// take answers the lines that data ends. They are valid until the next call.
func (w *lineWriter) take(stream agentv1.Stream, data []byte) []byte {
	w.out = w.out[:0]
	begun := &w.begun[stream]
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		room := teeLineLimit - len(*begun)
		switch {
		case end >= 0 && end <= room:
			w.emit(stream, *begun, data[:end])
			*begun, data = (*begun)[:0], data[end+1:]
		case len(data) > room:
			w.emit(stream, *begun, data[:room])
			*begun, data = (*begun)[:0], data[room:]
		default:
			*begun, data = append(*begun, data...), nil
		}
	}
	return w.out
}

// finish answers the lines that have no end.
func (w *lineWriter) finish() []byte {
	w.out = w.out[:0]
	for stream, begun := range w.begun {
		if len(begun) > 0 {
			w.emit(agentv1.Stream(stream), begun, nil)
		}
		w.begun[stream] = nil
	}
	return w.out
}

func (w *lineWriter) emit(stream agentv1.Stream, start, rest []byte) {
	mark := ""
	if stream == agentv1.Stream_STREAM_STDERR {
		mark = stderrMark
	} else if looksMarked(start, rest) {
		mark = stdoutMark
	}
	w.out = append(append(append(append(w.out, mark...), start...), rest...), '\n')
}

// looksMarked says whether a line in two parts begins with a mark.
func looksMarked(start, rest []byte) bool {
	head := append(append(make([]byte, 0, 2*len(agentMark)), start[:min(len(start), len(agentMark))]...), rest[:min(len(rest), len(agentMark))]...)
	for _, mark := range []string{stdoutMark, stderrMark, agentMark} {
		if bytes.HasPrefix(head, []byte(mark)) {
			return true
		}
	}
	return false
}

// markedWriter puts a mark before what is written to it, whole lines.
type markedWriter struct {
	out  io.Writer
	mark string
}

func (w markedWriter) Write(lines []byte) (int, error) {
	if _, err := w.out.Write(append([]byte(w.mark), lines...)); err != nil {
		return 0, err
	}
	return len(lines), nil
}
