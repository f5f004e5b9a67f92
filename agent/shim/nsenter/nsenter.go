// Package nsenter is the last step before a program that `docker exec` asked for
// runs in a local container, where the OCI runtime is not needed for it: the
// shim starts a program that is this package alone (cmd/sockerless-enter), or its
// own binary again, which joins the container and turns into that program, confined
// as the container's processes are.
//
// It is one process that nobody in the container can see, and a child of it.
// The process joins the cgroups, the namespaces and the session keyring, loads
// the container's own seccomp filter, and takes the program's identity; only
// then it makes the child, in the container's PID namespace and as the shim's
// own child, which has nothing left to do but to begin a session and to execute
// the program. So there is never a process in the container that may do more
// than the program may, or that holds more: whoever may trace in the container
// finds the program's standard streams open in it, and no other descriptor.
//
// It inherits
//
//	fd 0–2  the program's standard streams
//	fd 3    the read end of a pipe with the Spec
//	fd 4    a memory file of RecordSize bytes
//	fd 5    a pidfd of the container's main process
//	fd 6    a socket that takes the master of a terminal; where there is none, nothing
//
// The memory file has the last Record once the process has ended: RecordChild is
// success. It is mapped and closed, and the child has no part of it.
//
// Everything happens in an init function, before the packages of a whole agent
// are initialised, which would take longer than the rest. Hence raw system
// calls, and no package but syscall. Hence also one thread: what a thread sets
// of its identity is its own, and the child is made by that thread.
package nsenter

import (
	"runtime"
	"syscall"
)

// Marker and OneProcessor are the whole environment of such a process, which tells
// it from an agent. Go's runtime starts a thread less, and reserves less memory,
// where it is to use one processor.
const (
	Marker       = "SOCKERLESS_AGENT_ENTER=1"
	OneProcessor = "GOMAXPROCS=1"
)

// File descriptors that it inherits.
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

// Step is what failed.
type Step byte

// The steps, in their order; the last ones are a main process's.
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

// stepNames are in the order of the steps.
var stepNames = [...]string{
	"", "close descriptors", "read the specification", "join the control groups", "set the OOM score", "set the limits",
	"join the namespaces", "make a terminal", "join the keyring", "own the standard streams", "set no_new_privs",
	"load the seccomp filter", "enter the directory", "drop capabilities", "switch the user",
	"set the capabilities", "find the program", "fork", "execute the program",
	"open the overlay and the files", "change the root", "mount what is its own", "mask",
}

// Describe words why a step failed.
func Describe(at Step, errno syscall.Errno) string {
	name := "an unknown step"
	if int(at) < len(stepNames) {
		name = stepNames[at]
	}
	return name + ": " + errno.Error()
}

// run prepares and makes the child, and reports any failure.
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
		{stepSeccomp, loadFilterByPrivilege}, // which is given up next
		{StepDirectory, directory.enter},
		{stepBounding, dropBounding},
		{stepUser, switchUser},
		{stepCapabilities, setCapabilities},
		{StepDirectory, directory.enterAsUser},
		{stepSeccomp, loadFilterWithoutNewPrivileges}, // which may forbid what comes before
		{stepFork, rehearseFork},
	})
	if ok {
		execute(spec, path, failed)
	}
}

// preparation is one of the steps to a program.
type preparation struct {
	step Step
	take func(*Spec) syscall.Errno
}

// prepare makes this thread what the program is to be, and finds the program. Not
// ok: the failure is reported.
func prepare(preparations []preparation) (_ *Spec, path string, ok bool) {
	spec, errno := readSpec()
	if errno != 0 {
		report(RecordFailed, uint32(stepSpec), errno)
		return nil, "", false
	}
	// A process that may trace those of the container's user does not see our
	// memory either.
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

// closeFrom closes a descriptor and all above it.
func closeFrom(first uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall(sysCloseRange, first, ^uintptr(0)>>33, 0)
	return errno
}

// closeOwn leaves what the program gets. It comes before the filter, which may
// forbid it.
func closeOwn(*Spec) syscall.Errno { return closeFrom(firstFD) }
