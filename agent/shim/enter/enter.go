// Package enter is the last step before a program that `docker exec` asked for
// runs in a local container, where the OCI runtime is not needed for it: the
// shim starts its own binary again, which joins the container and turns into
// that program, confined as the container's processes are.
//
// It is one process that nobody in the container can see, and a child of it.
// The process joins the cgroups, the namespaces and the session keyring, loads
// the container's own seccomp filter, and takes the program's identity; only
// then it makes the child, in the container's PID namespace and as the shim's
// own child, which has nothing left to do but to begin a session and to execute
// the program. So there is never a process in the container that may do more
// than the program may.
//
// It inherits
//
//	fd 0–2  the program's standard streams
//	fd 3    the read end of a pipe with the Spec
//	fd 4    the write end of the status pipe
//	fd 5    a pidfd of the container's main process
//
// On the status pipe it writes records (see Record). The pipe is close-on-exec
// in both processes: its end after RecordChild is success.
//
// Everything happens in an init function, before the packages of a whole agent
// are initialised, which would take longer than the rest. Hence raw system
// calls, and no package but syscall. Hence also one thread: what a thread sets
// of its identity is its own, and the child is made by that thread.
package enter

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Marker is the whole environment of such a process; it tells it from an agent.
const Marker = "SOCKERLESS_AGENT_ENTER=1"

// File descriptors that it inherits.
const (
	specFD   = 3
	statusFD = 4
	pidFD    = 5
)

func init() {
	if environment := syscall.Environ(); len(environment) == 1 && environment[0] == Marker {
		runtime.LockOSThread()
		run()
		syscall.Exit(1)
	}
}

// step names what failed, for the shim's log.
type step byte

// The steps, in their order.
const (
	stepDescriptors step = iota + 1
	stepSpec
	stepCgroups
	stepOOMScore
	stepLimits
	stepNamespaces
	stepKeyring
	stepStreams
	stepNoNewPrivileges
	stepSeccomp
	stepDirectory
	stepBounding
	stepUser
	stepCapabilities
	stepLookUp
	stepFork
	stepExecute
)

// stepNames are in the order of the steps.
var stepNames = [...]string{
	"", "close descriptors", "read the specification", "join the control groups", "set the OOM score", "set the limits",
	"join the namespaces", "join the keyring", "own the standard streams", "set no_new_privs",
	"load the seccomp filter", "enter the directory", "drop capabilities", "switch the user",
	"set the capabilities", "find the program", "fork", "execute the program",
}

// Describe words a RecordFailed.
func Describe(record Record) string {
	name := "an unknown step"
	if int(record.Value) < len(stepNames) {
		name = stepNames[record.Value]
	}
	return name + ": " + syscall.Errno(record.Errno).Error()
}

// run prepares and makes the child. Whatever fails is reported.
func run() {
	// Also what the shim's own parents left open: the program gets none of it.
	if _, _, errno := syscall.RawSyscall(sysCloseRange, specFD, ^uintptr(0)>>33, closeRangeCloexec); errno != 0 {
		report(RecordFailed, uint32(stepDescriptors), errno)
		return
	}
	spec, errno := readSpec()
	if errno != 0 {
		report(RecordFailed, uint32(stepSpec), errno)
		return
	}
	if at, errno := become(spec); errno != 0 {
		report(RecordFailed, uint32(at), errno)
		return
	}
	path, errno := lookUp(spec)
	if errno != 0 {
		report(RecordFailed, uint32(stepLookUp), errno)
		return
	}
	execute(spec, path)
}

// become makes this thread what the program is to be.
func become(spec *Spec) (step, syscall.Errno) {
	// Not even who may trace processes of the container's user sees our memory.
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	for _, next := range []struct {
		step step
		take func(*Spec) syscall.Errno
	}{
		{stepCgroups, joinCgroups},
		{stepOOMScore, setOOMScore},
		{stepLimits, setLimits},
		{stepNamespaces, joinNamespaces},
		{stepKeyring, joinKeyring},
		{stepStreams, ownStreams},
		{stepNoNewPrivileges, setNoNewPrivileges},
		{stepSeccomp, loadFilter}, // here, because it takes a privilege that is given up next
		{stepDirectory, enterDirectory},
		{stepBounding, dropBounding},
		{stepUser, switchUser},
		{stepCapabilities, setCapabilities},
		// The directory may be the user's alone, or root's alone.
		{stepDirectory, enterDirectoryAsUser},
	} {
		if errno := next.take(spec); errno != 0 {
			return next.step, errno
		}
	}
	return 0, 0
}

// report writes one record.
func report(kind RecordKind, value uint32, errno syscall.Errno) {
	record := encodeRecord(kind, value, uint32(errno))
	// A shim that is gone hears nothing.
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&record)), unsafe.Sizeof(record))
}
