// Package nsenter is the last step before a program of `docker exec` runs in a
// local container, if the OCI runtime is not needed for it: the shim starts a
// program with only this package (cmd/sockerless-enter), or its own binary again,
// which joins the container and becomes that program, confined as the container's
// processes are.
//
// It is a process that nobody in the container can see, and its child. The
// process joins the cgroups, the namespaces and the session keyring, loads the
// container's own seccomp filter, and takes the program's identity; only then
// does it clone the child, in the container's PID namespace and as the shim's own
// child, which has only to start a session and to execute the program. So no
// process in the container ever has more rights than the program, or holds more:
// a tracer in the container finds the program's standard streams open in it, and
// no other descriptor.
//
// It inherits
//
//	fd 0–2  the program's standard streams
//	fd 3    the read end of a pipe with the Spec
//	fd 4    a memory file of RecordSize bytes
//	fd 5    a pidfd of the container's main process
//	fd 6    a socket that takes the master of a terminal; where there is none, nothing
//
// The memory file has the last Record once the process has ended: RecordChild
// means success. It is mapped and closed, and not shared with the child.
//
// Everything happens in an init function, before the packages of a whole agent
// are initialised, which would take longer than the rest. Hence raw system calls,
// and no package but syscall. Hence also one thread: identity is set for each
// thread, and this thread clones the child.
package nsenter

import (
	"runtime"
	"syscall"
)

// Marker and OneProcessor are the whole environment of such a process, which
// distinguishes it from an agent. With one processor Go's runtime starts a thread
// less and reserves less memory.
const (
	Marker       = "SOCKERLESS_AGENT_ENTER=1"
	OneProcessor = "GOMAXPROCS=1"
)

// File descriptors that the process inherits.
const (
	specFD    = 3
	recordFD  = 4
	pidFD     = 5
	consoleFD = 6
	firstFD   = 3 // that the program does not get
)

func init() {
	if isStartedAs(Marker, OneProcessor) {
		runtime.LockOSThread()
		run()
		syscall.Exit(1)
	}
}

// isStartedAs reports whether these variables are the whole environment.
func isStartedAs(variables ...string) bool {
	environment := syscall.Environ()
	if len(environment) != len(variables) {
		return false
	}
	for i, variable := range variables {
		if environment[i] != variable {
			return false
		}
	}
	return true
}

// Step is a step that can fail.
type Step byte

// The steps, in order; only main processes take the last ones.
const (
	stepDescriptors Step = iota + 1
	stepSpec
	stepCgroups
	stepOOMScore
	stepLimits
	stepNamespaces
	stepTerminal
	stepKeyring
	stepStreams
	stepNoNewPrivileges
	stepSeccomp
	StepDirectory
	stepBounding
	stepUser
	stepCapabilities
	StepLookUp
	stepFork
	StepExecute
	stepMachine
	stepRoot
	stepMounts
	stepMasks
)

// stepNames has the same order.
var stepNames = [...]string{
	"", "close descriptors", "read the specification", "join the control groups", "set the OOM score", "set the limits",
	"join the namespaces", "make a terminal", "join the keyring", "own the standard streams", "set no_new_privs",
	"load the seccomp filter", "enter the directory", "drop capabilities", "switch the user",
	"set the capabilities", "find the program", "fork", "execute the program",
	"open the overlay and the files", "change the root", "mount what is its own", "mask",
}

// Describe describes a failed step.
func Describe(at Step, errno syscall.Errno) string {
	name := "an unknown step"
	if int(at) < len(stepNames) {
		name = stepNames[at]
	}
	return name + ": " + errno.Error()
}

// run prepares and creates the child, and reports any failure.
func run() {
	failed, errno := mapRecords()
	if errno != 0 {
		return // no record: nothing ran
	}
	if errno := closeFrom(consoleFD + 1); errno != 0 {
		report(RecordFailed, uint32(stepDescriptors), errno)
		return
	}
	directory := &workingDirectory{}
	spec, path, ok := prepare([]preparation{
		{stepCgroups, joinCgroups},
		{stepOOMScore, setOOMScore},
		{stepLimits, setLimits},
		{stepNamespaces, joinNamespaces},
		{stepTerminal, openTerminal},
		{stepDescriptors, closeOwn},
		{stepKeyring, joinKeyring},
		{stepStreams, ownStreams},
		{stepNoNewPrivileges, setNoNewPrivileges},
		{stepSeccomp, loadFilterByPrivilege}, // before that privilege is given up
		{StepDirectory, directory.enter},
		{stepBounding, dropBounding},
		{stepUser, switchUser},
		{stepCapabilities, setCapabilities},
		{StepDirectory, directory.enterAsUser},
		{stepSeccomp, loadFilterWithoutNewPrivileges}, // may forbid the earlier steps
		{stepFork, rehearseFork},
	})
	if ok {
		execute(spec, path, failed)
	}
}

// preparation is a step on the way to the program.
type preparation struct {
	step Step
	take func(*Spec) syscall.Errno
}

// prepare gives this thread the program's identity and confinement, and finds the
// program. ok is false after a reported failure.
func prepare(preparations []preparation) (_ *Spec, path string, ok bool) {
	spec, errno := readSpec()
	if errno != 0 {
		report(RecordFailed, uint32(stepSpec), errno)
		return nil, "", false
	}
	// Tracers with the rights of the container's user cannot read our memory
	// either.
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	for _, next := range preparations {
		if errno := next.take(spec); errno != 0 {
			report(RecordFailed, uint32(next.step), errno)
			return nil, "", false
		}
	}
	if path, errno = lookUp(spec); errno != 0 {
		report(RecordFailed, uint32(StepLookUp), errno)
		return nil, "", false
	}
	return spec, path, true
}

// closeFrom closes a descriptor and all higher ones.
func closeFrom(first uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall(sysCloseRange, first, ^uintptr(0)>>33, 0)
	return errno
}

// closeOwn closes everything but the program's streams. It precedes the filter,
// which may forbid it.
func closeOwn(*Spec) syscall.Errno { return closeFrom(firstFD) }
