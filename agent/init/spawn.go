package containerinit

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/stdio"
	"github.com/sockerless/sockerless/agent/init/setpriv"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// ownBinary is the agent's executable, even after its file is deleted.
const ownBinary = "/proc/self/exe"

// startGrace is how long a pause, and the end of a run, waits for a process that does
// not become its program, as in a volume whose server is away.
const startGrace = time.Second

// maxReport bounds the reports of the process, which may be the user's by then.
const maxReport = 64 << 10

// spawn starts a process, and waits until it has become the program or has
// reported an error.
func (l *launcher) spawn(program *setpriv.Spec, spec *agentv1.ProcessSpec, streams session.Streams) (_ *children.Child, _ session.Stdio, err error) {
	l.spawning.RLock()
	made := sync.OnceFunc(l.spawning.RUnlock)
	defer made()
	if l.paused {
		return nil, session.Stdio{}, errPaused
	}
	wires, err := wire(spec, streams)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	defer wires.CloseChild()
	defer func() {
		if err != nil {
			wires.Ours.Close()
		}
	}()
	specification, tell, err := os.Pipe()
	if err != nil {
		return nil, session.Stdio{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer tell.Close()
	reports, report, err := os.Pipe()
	if err != nil {
		specification.Close()
		return nil, session.Stdio{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer reports.Close()
	child, err := l.reaper.Spawn(ownBinary, []string{"sockerless-agent", setpriv.Name}, &os.ProcAttr{
		Env:   setpriv.Environment,
		Files: []*os.File{wires.Child[0], wires.Child[1], wires.Child[2], specification, report},
	})
	specification.Close()
	report.Close()
	if err != nil {
		return nil, session.Stdio{}, err
	}
	l.watch(child)
	defer time.AfterFunc(startGrace, made).Stop()
	// If it dies early, the pipe breaks; its reports show why.
	_ = json.NewEncoder(tell).Encode(program)
	tell.Close()
	if err := outcome(reports); err != nil {
		_ = child.Signal(unix.SIGKILL)
		<-child.Done()
		return nil, session.Stdio{}, err
	}
	return child, wires.Ours, nil
}

func wire(spec *agentv1.ProcessSpec, streams session.Streams) (*stdio.Wiring, error) {
	if !spec.Tty {
		return stdio.Pipes(streams, stdio.OpenNull)
	}
	wires, err := stdio.Terminal()
	if err != nil {
		return nil, err
	}
	if size := spec.ConsoleSize; size.GetHeight() > 0 && size.GetWidth() > 0 {
		if err := session.SetTerminalSize(wires.Ours.Terminal, size.Height, size.Width); err != nil {
			wires.Close()
			return nil, fmt.Errorf("size the terminal: %w", err)
		}
	}
	return wires, nil
}

// outcome reads a process's reports to their end.
func outcome(from io.Reader) error {
	reports := json.NewDecoder(io.LimitReader(from, maxReport))
	var prepared, failed setpriv.Report
	if err := reports.Decode(&prepared); err != nil {
		return &session.StartError{ExitCode: setpriv.Unknown, Message: "it died while it was prepared"}
	}
	failure := &prepared
	if prepared.ExitCode == 0 {
		if err := reports.Decode(&failed); err == io.EOF {
			return nil
		}
		failure = &failed
	}
	return &session.StartError{ExitCode: failure.ExitCode, Message: failure.Message}
}
