package session

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Process is a started process of the container.
type Process interface {
	PID() int
	// Signal returns os.ErrProcessDone when the process has ended.
	Signal(unix.Signal) error
	// Done is closed once the process has ended.
	Done() <-chan struct{}
	// Status waits for the end.
	Status() ExitStatus
}

// ExitStatus is a process's exit.
type ExitStatus struct {
	Code       int // 128 + n when a signal ended it
	Signal     int // 0: exited by itself
	OOMKilled  bool
	FinishedAt time.Time
}

// ExitStatusOf converts the result of wait4.
func ExitStatusOf(status unix.WaitStatus, at time.Time) ExitStatus {
	if status.Signaled() {
		return ExitStatus{Code: 128 + int(status.Signal()), Signal: int(status.Signal()), FinishedAt: at}
	}
	return ExitStatus{Code: status.ExitStatus(), FinishedAt: at}
}

// Proto is the status as a message.
func (s ExitStatus) Proto() *agentv1.ExitStatus {
	return &agentv1.ExitStatus{
		Code:       int32(s.Code),
		Signal:     int32(s.Signal),
		OomKilled:  s.OOMKilled,
		FinishedAt: timestamppb.New(s.FinishedAt),
	}
}

// Stdio is the agent's side of a process's standard streams. A nil file is not
// connected to the agent. The files are pollable (non-blocking), and the receiver
// of a Stdio closes them.
type Stdio struct {
	Stdin    *os.File // write end of a pipe
	Stdout   *os.File // read end
	Stderr   *os.File // read end
	Terminal *os.File // master of a pseudo-terminal, in place of the three
}

// Close closes every file.
func (s Stdio) Close() {
	for _, file := range []*os.File{s.Stdin, s.Stdout, s.Stderr, s.Terminal} {
		if file != nil {
			file.Close()
		}
	}
}

// Streams selects the standard streams that a process has; the others are the
// null device. A terminal has all three.
type Streams struct {
	Stdin, Stdout, Stderr bool
}

// StartError describes a process that could not be started.
type StartError struct {
	ExitCode int // 127 not found, 126 not executable, 128 anything else
	Message  string
}

func (e *StartError) Error() string { return e.Message }

// Runtime starts and controls an agent's processes.
type Runtime interface {
	// Launch starts the main process. If the command cannot be executed the error
	// is a *StartError.
	Launch(ctx context.Context, request *agentv1.StartRequest) (Process, Stdio, error)
	// Exec starts another process in the container; errors as for Launch.
	Exec(ctx context.Context, process *agentv1.ProcessSpec, streams Streams) (Process, Stdio, error)
	// SignalAll sends a signal to every process of the container.
	SignalAll(ctx context.Context, signal unix.Signal) error
	// Pause freezes every process of the container, Resume thaws them.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}
