package containerinit

import (
	"bytes"
	"context"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// The marks at the beginning of a line that the platform collects identify its
// stream. A line of stdout has one only if it would otherwise be mistaken for
// another stream's, or be lost.
const (
	stdoutMark = "[stdout] "
	stderrMark = "[stderr] "
	agentMark  = "[sockerless] "
)

// The signs follow inside a mark after a space, in this order.
const (
	escapedSign   = '%' // bytes are written as % and two digits
	continuedSign = '-' // goes on with the last line of its stream
	unendedSign   = '+' // has no newline
)

// teeLineLimit bounds a line: longer ones are split.
const teeLineLimit = 64 << 10

// platformOutput is where the platform collects the container's output.
type platformOutput struct {
	out   io.Writer
	tees  sync.WaitGroup
	mu    sync.Mutex // one run at a time
	lines lineWriter
}

// follow copies the output of a run that is about to start, and then the line
// that ended returns. While the platform accepts none, the session blocks only
// the process.
func (p *platformOutput) follow(run *session.Session, ended func(*agentv1.ExitStatus) string) {
	p.tees.Add(1)
	go func() {
		defer p.tees.Done()
		defer run.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		if exit := p.copy(run); exit != nil {
			_, _ = io.WriteString(p.out, ended(exit))
		}
	}()
}

// copy returns the run's exit; nil if the run did not start.
func (p *platformOutput) copy(run *session.Session) (exit *agentv1.ExitStatus) {
	for {
		message, err := run.Next(context.Background())
		if err != nil { // its end
			// The process continues even if the platform accepts no more output.
			_, _ = p.out.Write(p.lines.finish())
			return exit
		}
		if status := message.GetExit(); status != nil {
			exit = status
		}
		if output := message.GetStdout(); output != nil {
			_, _ = p.out.Write(p.lines.take(agentv1.Stream_STREAM_STDOUT, output.Data))
		}
		if output := message.GetStderr(); output != nil {
			_, _ = p.out.Write(p.lines.take(agentv1.Stream_STREAM_STDERR, output.Data))
		}
	}
}

// wait waits until all followed output has been accepted.
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

// lineWriter converts two streams' output to complete, marked lines.
type lineWriter struct {
	begun [3]begunLine // by stream
	out   []byte
}

// begunLine is a line without its end so far.
type begunLine struct {
	bytes []byte
	cut   bool // a part of it was written already
}

// take returns the lines that data completes. They are valid until the next call.
func (w *lineWriter) take(stream agentv1.Stream, data []byte) []byte {
	w.out = w.out[:0]
	begun := &w.begun[stream]
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		room := teeLineLimit - len(begun.bytes)
		switch {
		case end >= 0 && end <= room:
			w.emit(stream, data[:end], true)
			data = data[end+1:]
		case len(data) > room:
			w.emit(stream, data[:room], false)
			data = data[room:]
		default:
			begun.bytes, data = append(begun.bytes, data...), nil
		}
	}
	return w.out
}

// finish returns the incomplete lines.
func (w *lineWriter) finish() []byte {
	w.out = w.out[:0]
	for stream := range w.begun {
		if len(w.begun[stream].bytes) > 0 {
			w.emit(agentv1.Stream(stream), nil, false)
		}
		w.begun[stream] = begunLine{}
	}
	return w.out
}

// emit adds a line, or a part of one, ending with last.
func (w *lineWriter) emit(stream agentv1.Stream, last []byte, ends bool) {
	begun := &w.begun[stream]
	line := last
	if len(begun.bytes) > 0 {
		begun.bytes = append(begun.bytes, last...)
		line = begun.bytes
	}
	signs := make([]byte, 0, 4)
	escaped := !utf8.Valid(line)
	if escaped {
		signs = append(signs, escapedSign)
	}
	if begun.cut {
		signs = append(signs, continuedSign)
	}
	if !ends {
		signs = append(signs, unendedSign)
	}
	mark := stdoutMark
	if stream == agentv1.Stream_STREAM_STDERR {
		mark = stderrMark
	}
	switch {
	case len(signs) > 0:
		w.out = append(append(append(w.out, mark[:len(mark)-len("] ")]...), ' '), signs...)
		w.out = append(w.out, "] "...)
	case mark == stderrMark, len(line) == 0, looksMarked(line): // the platform drops empty lines
		w.out = append(w.out, mark...)
	}
	if escaped {
		w.out = appendEscaped(w.out, line)
	} else {
		w.out = append(w.out, line...)
	}
	w.out = append(w.out, '\n')
	begun.bytes, begun.cut = begun.bytes[:0], !ends
}

const upperHex = "0123456789ABCDEF"

// appendEscaped writes each byte that is not UTF-8, and each %, as % and two
// hexadecimal digits: the platform would replace the former.
func appendEscaped(out, line []byte) []byte {
	for len(line) > 0 {
		char, size := utf8.DecodeRune(line)
		if char == utf8.RuneError && size == 1 || char == '%' {
			out = append(out, '%', upperHex[line[0]>>4], upperHex[line[0]&0xf])
		} else {
			out = append(out, line[:size]...)
		}
		line = line[size:]
	}
	return out
}

// looksMarked reports whether a line begins like a mark.
func looksMarked(line []byte) bool {
	for _, mark := range []string{stdoutMark, stderrMark, agentMark} {
		if bytes.HasPrefix(line, []byte(mark[:len(mark)-len("] ")])) {
			return true
		}
	}
	return false
}

// markedWriter prefixes a mark to what is written to it in whole lines.
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
