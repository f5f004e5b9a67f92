package shim

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/stdio"
	"github.com/sockerless/sockerless/agent/shim/nsenter"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// launchStep runs the command of a later generation, prepared by the host
// process, in the sandbox. An error means that nothing of it ran.
func (c *localContainer) launchStep(generation uint64) (session.Process, session.Stdio, error) {
	sandbox, last := c.sandbox, c.current.Load()
	// This generation's from now on, even if the launch fails: the failure is
	// recorded for it, and the shim knows which one has ended.
	begun := *last.spec
	begun.Generation = generation
	notRunning := running{spec: &begun, main: last.main, exec: last.exec, oom: last.oom, cgroup: last.cgroup, needsRuntime: session.ErrNotRunning}
	c.current.Store(&notRunning)
	spec, err := readSpec(c.paths().Spec())
	if err != nil {
		return nil, session.Stdio{}, err
	}
	if spec.Generation != generation || spec.ContainerID != c.spec.ContainerID {
		return nil, session.Stdio{}, fmt.Errorf("generation %d is prepared, not %d", spec.Generation, generation)
	}
	if sandbox == nil {
		return nil, session.Stdio{}, errors.New("nothing is kept of the last step")
	}
	entered, exec, err := c.stepOf(sandbox, spec)
	if err != nil {
		return nil, session.Stdio{}, err
	}
	before := last.oom.kills()
	main, err := c.enterStep(sandbox, entered, spec)
	if err != nil {
		return nil, session.Stdio{}, startFailure(err)
	}
	faultpoint.Reached("shim.start.executing")
	confinement, needsRuntime := sandbox.confinement.ofStep(main.child, entered.Keyring)
	c.current.Store(&running{
		spec: spec, main: main, exec: exec, oom: last.oom, cgroup: last.cgroup, confinement: confinement, needsRuntime: needsRuntime,
	})
	return &process{Child: main.child, oom: last.oom, before: before}, main.stdio, nil
}

// stepOf builds the entering process's specification and the template of the
// step's execs.
func (c *localContainer) stepOf(sandbox *sandbox, spec *shimspec.Spec) (*nsenter.Spec, *processTemplate, error) {
	configFile := filepath.Join(spec.Bundle, "config.json")
	var config struct {
		Process json.RawMessage `json:"process"`
	}
	content, err := readConfiguration(configFile, &config)
	if err != nil {
		return nil, nil, err
	}
	settings, err := settingsOf(content)
	if err != nil {
		return nil, nil, err
	}
	if settings != sandbox.settings || spec.TTY || len(spec.Ports)+len(spec.DockerSockets) > 0 || spec.NetworkNamespace != c.spec.NetworkNamespace {
		return nil, nil, errors.New("the step has other settings than the last one")
	}
	root, err := os.OpenFile(spec.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open the root of the step: %w", err)
	}
	defer root.Close()
	entered, err := sandbox.confinement.enterSpec(config.Process, root)
	if err != nil {
		return nil, nil, err
	}
	entered.Root = sandbox.root
	entered.Root.Overlay = spec.Rootfs
	// Unguessable, so that nobody could have put keys into it before.
	entered.Keyring = fmt.Sprintf("_ses.%s.%s", spec.ContainerID, rand.Text())
	exec, err := readProcessTemplate(configFile, spec.SecretEnv)
	return entered, exec, err
}

// enterStep returns once the program is executed.
func (c *localContainer) enterStep(sandbox *sandbox, entered *nsenter.Spec, spec *shimspec.Spec) (_ *spawned, err error) {
	if sandbox.confinement.cgroups.waits {
		c.moves.soon()
		defer c.moves.end()
	}
	wires, err := stdio.Pipes(session.Streams{Stdin: spec.OpenStdin, Stdout: true, Stderr: true}, stdio.OpenNull)
	if err != nil {
		return nil, err
	}
	defer wires.CloseChild()
	defer func() {
		if err != nil {
			wires.Ours.Close()
		}
	}()
	specification, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer tell.Close()
	executed, executing, err := os.Pipe()
	if err != nil {
		specification.Close()
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer executed.Close()
	record, err := newRecord()
	if err != nil {
		specification.Close()
		executing.Close()
		return nil, err
	}
	defer record.Close()
	attributes, made, err := sandbox.confinement.cgroups.attributes()
	if err != nil {
		specification.Close()
		executing.Close()
		return nil, err
	}
	defer made()
	if attributes == nil {
		attributes = &syscall.SysProcAttr{}
	}
	attributes.Cloneflags = syscall.CLONE_NEWPID
	files := append(wires.Child[:], specification, record, executing)
	child, err := c.runtime.reaper.Spawn(fmt.Sprintf("/proc/self/fd/%d", sandbox.confinement.binary.Fd()), []string{"sockerless-agent", "step"}, &os.ProcAttr{
		Env:   []string{nsenter.MainMarker, nsenter.OneProcessor},
		Files: append(files, sandbox.namespaces...),
		Sys:   attributes,
	})
	specification.Close()
	executing.Close()
	if err != nil {
		return nil, err
	}
	// If it dies early, the pipe breaks; its record shows why.
	_, _ = tell.Write(entered.Encode())
	tell.Close()
	_, _ = io.Copy(io.Discard, executed)
	return &spawned{child: child, stdio: wires.Ours}, c.requireExecuted(child, record, entered)
}

// requireExecuted reads the record of a process that has executed or ended.
func (c *localContainer) requireExecuted(child *children.Child, from io.ReaderAt, entered *nsenter.Spec) error {
	var data [nsenter.RecordSize]byte
	if _, err := from.ReadAt(data[:], 0); err != nil {
		_ = child.Signal(unix.SIGKILL)
		return fmt.Errorf("read of a step's start: %w", err)
	}
	reason := "its start was killed"
	switch record := nsenter.ParseRecord(data[:]); record.Kind {
	case nsenter.RecordForking:
		return nil // or killed at that moment, which its status shows
	case nsenter.RecordFailed:
		reason = refusal(nsenter.Step(record.Value), syscall.Errno(record.Errno), entered)
	}
	<-child.Done()
	return &runtimeError{command: "start", reason: reason}
}

// signalStep sends a signal to every process of a step.
func (c *localContainer) signalStep(signal unix.Signal) error {
	pids, err := c.current.Load().cgroup.Processes()
	for _, pid := range pids {
		err = errors.Join(err, c.signalMember(pid, signal))
	}
	return err
}

// signalMember signals a process unless it has left the container's group: then
// its number may belong to another one.
func (c *localContainer) signalMember(pid int, signal unix.Signal) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold a process: %w", err)
	}
	defer unix.Close(pidfd)
	members, err := c.current.Load().cgroup.Processes()
	if err != nil || !slices.Contains(members, pid) {
		return err
	}
	if err := unix.PidfdSendSignal(pidfd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal a process: %w", err)
	}
	return nil
}

// ofStep returns the confinement of execs in a step.
func (c *confinement) ofStep(main *children.Child, keyring string) (*confinement, error) {
	held, err := main.Hold()
	if err != nil {
		return nil, err
	}
	step := *c
	step.main, step.keyring = held, keyring
	return &step, nil
}
