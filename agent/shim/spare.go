package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/environment"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/shim/enter"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

const (
	// waiterLimit is how long a spare's process may take to say that it waits: it
	// takes 2 ms.
	waiterLimit = 10 * time.Second
	// spareLimit is how long a spare waits whose host process is gone, which ends it
	// sooner.
	spareLimit = time.Minute
)

// errNoSpare: what was asked for cannot be had without its command.
var errNoSpare = errors.New("no container of these settings can wait for its command")

// waiter is how the process in the place of a spare's program is told of it. It
// has the other ends.
type waiter struct {
	theirs   []*os.File // until it is made
	tell     *os.File   // what to execute
	executed *os.File   // a byte once it waits, the end once it is something else
	record   *os.File   // why it is not
}

// newWaiter needs the program that is package enter alone: Go's package os, which
// the whole agent has, would change a limit.
func newWaiter() (_ *waiter, err error) {
	program := programBeside()
	if program == "" {
		return nil, fmt.Errorf("%w: the program that waits is missing", errNoSpare)
	}
	w := &waiter{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	binary, err := protectedBinary(program)
	if err != nil {
		return nil, err
	}
	w.theirs = []*os.File{binary}
	if w.record, err = newRecord(); err != nil {
		return nil, err
	}
	specification, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	w.tell, w.theirs = tell, append(w.theirs, specification)
	executed, executing, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	w.executed, w.theirs = executed, append(w.theirs, executing)
	return w, nil
}

// inherited are the files that it gets behind its streams.
func (w *waiter) inherited() []*os.File {
	if w == nil {
		return nil
	}
	binary, specification, executing := w.theirs[0], w.theirs[1], w.theirs[2]
	return []*os.File{specification, w.record, executing, binary}
}

func (w *waiter) closeTheirs() {
	for _, file := range w.theirs {
		file.Close()
	}
	w.theirs = nil
}

func (w *waiter) close() {
	w.closeTheirs()
	for _, file := range []*os.File{w.tell, w.executed, w.record} {
		if file != nil {
			file.Close()
		}
	}
}

// await returns once it waits.
func (w *waiter) await() error {
	if err := w.executed.SetReadDeadline(time.Now().Add(waiterLimit)); err != nil {
		return fmt.Errorf("wait for a spare's process: %w", err)
	}
	if n, err := w.executed.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("%w: its process does not wait: %w", errNoSpare, err)
	}
	return w.executed.SetReadDeadline(time.Time{})
}

// execute has it execute the program, and returns once it is that. errNothingRan:
// it says that it cannot.
func (w *waiter) execute(spec *enter.Spec) error {
	// One that dies breaks the pipe, which its record shows.
	_, _ = w.tell.Write(spec.Encode())
	w.tell.Close()
	if err := w.executed.SetReadDeadline(time.Now().Add(programLimit)); err != nil {
		return fmt.Errorf("wait for a spare's program: %w", err)
	}
	if _, err := io.Copy(io.Discard, w.executed); err != nil {
		slog.Warn("a spare's command is not yet executed", "error", err)
	}
	var data [enter.RecordSize]byte
	if _, err := w.record.ReadAt(data[:], 0); err != nil {
		return fmt.Errorf("read of a spare's start: %w", err)
	}
	switch enter.ParseRecord(data[:]).Kind {
	case enter.RecordForking:
		return nil // or killed right then, which its status says
	case enter.RecordFailed:
		return errNothingRan
	}
	return session.ErrNotRunning
}

// createSpare has the runtime make a container whose command is not known, and
// lets its process, which is confined by then, become the one that waits.
func (c *localContainer) createSpare() error {
	waiter, err := newWaiter()
	if err != nil {
		return err
	}
	err = c.create(waiter)
	waiter.closeTheirs()
	if err == nil {
		err = c.letWait(waiter)
	}
	if err != nil {
		waiter.close()
		var refused *runtimeError
		if errors.As(err, &refused) || errors.Is(err, errRuntimeOnly) {
			err = fmt.Errorf("%w: %w", errNoSpare, err)
		}
		return err
	}
	c.waiter = waiter
	return nil
}

func (c *localContainer) letWait(waiter *waiter) error {
	current := c.current.Load()
	if current.confinement == nil {
		return current.needsRuntime
	}
	if err := c.runtime.letExecute(current.main.child); err != nil {
		return err
	}
	faultpoint.Reached("shim.spare.executing")
	return waiter.await()
}

// launchSpare runs the command, which the host process has written down, in what
// waits for it.
func (c *localContainer) launchSpare(generation uint64) (session.Process, session.Stdio, error) {
	waiter, created := c.waiter, *c.current.Load()
	defer waiter.close()
	c.waiter = nil
	spec, err := readSpec(shimspec.ContainerPaths{Dir: filepath.Dir(c.spec.ExitRecord)}.Spec())
	if err != nil {
		return nil, session.Stdio{}, err
	}
	if spec.Spare || spec.Generation != generation || spec.ContainerID != c.spec.ContainerID {
		return nil, session.Stdio{}, errors.New("nobody has asked for this container yet")
	}
	launched := created
	launched.spec = spec
	if launched.exec, err = readProcessTemplate(filepath.Join(spec.Bundle, "config.json"), spec.SecretEnv); err != nil {
		return nil, session.Stdio{}, err
	}
	c.current.Store(&launched)
	entered, err := c.waitersSpec(&launched)
	if err == nil {
		err = waiter.execute(entered)
	}
	if errors.Is(err, errRuntimeOnly) || errors.Is(err, errNothingRan) {
		return c.launchAnew()
	}
	if err != nil {
		return nil, session.Stdio{}, err
	}
	faultpoint.Reached("shim.start.executing")
	c.started()
	return &process{Child: launched.main.child, oom: c.oom}, launched.main.stdio, nil
}

// waitersSpec is the command and its environment, as the runtime makes it.
// errRuntimeOnly: the runtime refuses it.
func (c *localContainer) waitersSpec(launched *running) (*enter.Spec, error) {
	spec := &enter.Spec{}
	var user ociUser
	for member, value := range map[string]any{"args": &spec.Args, "env": &spec.Env, "user": &user} {
		if err := json.Unmarshal(launched.exec.fields[member], value); err != nil {
			return nil, fmt.Errorf("parse the OCI configuration: %w", err)
		}
	}
	if slices.ContainsFunc(spec.Env, func(entry string) bool { return strings.Index(entry, "=") < 1 }) {
		return nil, runtimeOnly("a variable without a name or a value")
	}
	spec.UID, spec.Env = user.UID, environment.Overlay(nil, spec.Env)
	root, err := c.openRoot()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return spec, launched.confinement.addHome(spec, root)
}

// launchAnew gives a command that was not executed to the runtime, which finds out
// why and has the words: it makes the container again.
func (c *localContainer) launchAnew() (session.Process, session.Stdio, error) {
	waiting := c.main()
	_ = waiting.child.Signal(unix.SIGKILL) // gone already, as likely as not
	waiting.child.Status()
	waiting.stdio.Close()
	if err := c.runtime.run(nil, "delete", "--force", c.spec.ContainerID); err != nil {
		return nil, session.Stdio{}, startFailure(err)
	}
	if err := c.create(nil); err != nil {
		return nil, session.Stdio{}, createFailure(err)
	}
	return c.launchCreated()
}

// endUnclaimed ends a spare, in time, that nobody has asked for. A host process
// would have.
func (s *shim) endUnclaimed() {
	time.Sleep(spareLimit)
	spec, err := readSpec(shimspec.ContainerPaths{Dir: filepath.Dir(s.spec.ExitRecord)}.Spec())
	if err != nil || !spec.Spare {
		return // it is launched, or a host process is taking it away
	}
	if err := s.container.runtime.run(nil, "delete", "--force", s.spec.ContainerID); err != nil {
		s.logger.Error("a spare is not deleted", "error", err)
	}
	select {
	case s.terminate <- unix.SIGTERM:
	default: // it is told already
	}
}
