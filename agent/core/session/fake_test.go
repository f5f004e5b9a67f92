package session_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const limit = 2 * time.Minute

// fakeProcess is a process played by a test, which holds the process's side of
// real pipes.
type fakeProcess struct {
	stdin          *os.File
	stdout, stderr *os.File
	done           chan struct{}
	status         session.ExitStatus

	mu      sync.Mutex
	signals []unix.Signal
	refusal error // of the next signal
}

func (p *fakeProcess) PID() int                   { return 4242 }
func (p *fakeProcess) Done() <-chan struct{}      { return p.done }
func (p *fakeProcess) Status() session.ExitStatus { <-p.done; return p.status }
func (p *fakeProcess) Signal(signal unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refusal; err != nil {
		p.refusal = nil
		return err
	}
	p.signals = append(p.signals, signal)
	return nil
}

// exit ends the process; its files are closed by the kernel.
func (p *fakeProcess) exit(code int) {
	p.die(code)
	for _, file := range []*os.File{p.stdin, p.stdout, p.stderr} {
		file.Close()
	}
}

// die ends the process while another still holds its pipes.
func (p *fakeProcess) die(code int) {
	p.status = session.ExitStatus{Code: code, FinishedAt: time.Now()}
	close(p.done)
}

// fakeRuntime starts fake processes.
type fakeRuntime struct {
	t        testing.TB
	launched chan *fakeProcess
	execs    chan *fakeProcess
	refusal  error
	terminal *os.File // of the main process

	beforeExec func() error
}

func newRuntime(t testing.TB) *fakeRuntime {
	return &fakeRuntime{t: t, launched: make(chan *fakeProcess, 1), execs: make(chan *fakeProcess, 16)}
}

func (r *fakeRuntime) make() (*fakeProcess, session.Stdio) {
	pipe := func() (reader, writer *os.File) {
		reader, writer, err := os.Pipe()
		if err != nil {
			r.t.Error(err)
		}
		return reader, writer
	}
	p, ours := &fakeProcess{done: make(chan struct{})}, session.Stdio{}
	p.stdin, ours.Stdin = pipe()
	ours.Stdout, p.stdout = pipe()
	ours.Stderr, p.stderr = pipe()
	return p, ours
}

func (r *fakeRuntime) Launch(context.Context, *agentv1.StartRequest) (session.Process, session.Stdio, error) {
	if r.refusal != nil {
		return nil, session.Stdio{}, r.refusal
	}
	p, ours := r.make()
	ours.Terminal = r.terminal
	r.launched <- p
	return p, ours, nil
}

func (r *fakeRuntime) Exec(context.Context, *agentv1.ProcessSpec, session.Streams) (session.Process, session.Stdio, error) {
	if r.beforeExec != nil {
		if err := r.beforeExec(); err != nil {
			return nil, session.Stdio{}, err
		}
	}
	p, ours := r.make()
	r.execs <- p
	return p, ours, nil
}

func (r *fakeRuntime) SignalAll(context.Context, unix.Signal) error { return nil }
func (r *fakeRuntime) Pause(context.Context) error                  { return nil }
func (r *fakeRuntime) Resume(context.Context) error                 { return nil }

func contextFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	assert.NilError(t, err)
}

// running makes a container whose main process runs.
func running(t testing.TB, options session.Options) (*session.Sessions, *fakeRuntime, *fakeProcess) {
	t.Helper()
	runtime := newRuntime(t)
	options.Runtime = runtime
	c := session.New(session.MainProcess{}, options)
	_, err := c.Start(contextFor(t), &agentv1.StartRequest{Generation: 1})
	must(t, err)
	return c, runtime, <-runtime.launched
}

func memoryLog(t testing.TB) *log.Writer {
	t.Helper()
	writer, _, err := log.Open(t.TempDir(), log.Settings{})
	must(t, err)
	t.Cleanup(func() { writer.Close() })
	return writer
}

func attachAll() *agentv1.OpenAttach {
	return &agentv1.OpenAttach{Stdout: true, Stderr: true, Stream: true}
}

// collected is all output of a session.
type collected struct {
	stdout, stderr []byte
	messages       int
	last           *agentv1.SessionResponse
}

func collect(t testing.TB, s *session.Session) collected {
	t.Helper()
	ctx := contextFor(t)
	var all collected
	for {
		response, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all.messages++
		all.stdout = append(all.stdout, response.GetStdout().GetData()...)
		all.stderr = append(all.stderr, response.GetStderr().GetData()...)
		all.last = response
	}
}
