package shim

import (
	"encoding/json"
	"errors"
	"fmt"
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

// createSpare has the runtime make a container whose command is not known, and
// lets its process, which is confined by then, become the one that waits.
// errNoSpare: it will not of these settings either when this is repeated.
func (c *localContainer) createSpare() error {
	if filepath.Base(c.runtime.path) != "runc" {
		return fmt.Errorf("%w: another runtime than runc", errNoSpare)
	}
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
		return err
	}
	c.waiter = waiter
	return nil
}

func (c *localContainer) letWait(waiter *waiter) error {
	current := c.current.Load()
	if err := current.needsRuntime; errors.Is(err, errRuntimeOnly) {
		return fmt.Errorf("%w: %w", errNoSpare, err)
	} else if err != nil {
		return err
	}
	if err := c.runtime.letExecute(current.main.child); err != nil {
		return err
	}
	faultpoint.Reached("shim.spare.executing")
	return waiter.await(current.main.child, current.oom)
}

// launchSpare runs the command, which the host process has written down, in what
// waits for it.
func (c *localContainer) launchSpare(generation uint64) (session.Process, session.Stdio, error) {
	waiter := c.waiter
	defer waiter.close()
	c.waiter = nil
	launched, err := c.claimed(generation)
	if err != nil {
		_ = c.main().child.Signal(unix.SIGKILL)
		return nil, session.Stdio{}, err
	}
	c.current.Store(launched)
	entered, err := c.waitersSpec(launched)
	if err == nil {
		err = waiter.execute(entered, launched.main.child)
	}
	if err != nil {
		slog.Info("a spare's command is left to the runtime", "error", err)
		return c.launchAnew()
	}
	faultpoint.Reached("shim.start.executing")
	c.started()
	return &process{Child: launched.main.child, oom: launched.oom}, launched.main.stdio, nil
}

// claimed is the container as it is to be once the command runs.
func (c *localContainer) claimed(generation uint64) (*running, error) {
	spec, err := readSpec(c.paths().Spec())
	if err != nil {
		return nil, err
	}
	if spec.Spare || spec.Generation != generation || spec.ContainerID != c.spec.ContainerID {
		return nil, errors.New("nobody has asked for this container yet")
	}
	launched := *c.current.Load()
	launched.spec = spec
	launched.exec, err = readProcessTemplate(filepath.Join(spec.Bundle, "config.json"), spec.SecretEnv)
	return &launched, err
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
	if len(spec.Args) == 0 {
		return nil, runtimeOnly("no command")
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
	waiting := *c.current.Load()
	_ = waiting.main.child.Signal(unix.SIGKILL) // gone already, as likely as not
	waiting.main.child.Status()
	waiting.main.stdio.Close()
	ended := waiting
	ended.confinement, ended.needsRuntime = nil, session.ErrNotRunning
	c.current.Store(&ended)
	waiting.confinement.close()
	waiting.oom.end() // of the next cgroup, which has its name, another one tells
	if err := c.runtime.run(nil, "delete", "--force", c.spec.ContainerID); err != nil {
		return nil, session.Stdio{}, startFailure(err)
	}
	if err := c.create(nil); err != nil {
		_ = c.main().child.Signal(unix.SIGKILL) // where it came as far as that
		return nil, session.Stdio{}, createFailure(err)
	}
	c.watchMemory()
	return c.launchCreated()
}

// endUnclaimed ends a spare, in time, that nobody has asked for. A host process
// would have.
func (s *shim) endUnclaimed() {
	time.Sleep(spareLimit)
	if withdrawn, err := s.withdraw(); err != nil {
		s.logger.Error("a spare is not ended", "error", err)
		return
	} else if !withdrawn {
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

// withdraw has nobody claim the spare any more: one without its readiness is not
// claimed. False: it has been.
func (s *shim) withdraw() (bool, error) {
	paths := s.container.paths()
	unlock, err := paths.LockSpare(shimspec.Wait)
	if err != nil {
		return false, err
	}
	defer unlock()
	if spec, err := readSpec(paths.Spec()); err != nil || !spec.Spare {
		return false, nil
	}
	if err := os.Remove(s.spec.ReadyRecord); err != nil {
		return false, err
	}
	_ = s.container.main().child.Signal(unix.SIGKILL) // a start finds it ended
	return true, nil
}
