package enter

import (
	"runtime"
	"syscall"
)

// WaitProgram and WaitEnvironment are what the OCI runtime executes in the place of
// a program that is not known yet: this program, confined wholly by then. It waits
// for a Spec's Args and Env, finds the program and executes it. It inherits, beside
// the descriptors 0 to 5 of a main process (MainMarker),
//
//	fd 6   its own binary
//
// By a byte on fd 5 it says that it waits. If the pipe of the Spec ends without
// one, it ends. It says nothing but by its Record.
const WaitProgram = "/proc/self/fd/6"

// HOME is there since the runtime would add it.
const (
	waitMarker = "SOCKERLESS_AGENT_ENTER=wait"
	waitHome   = "HOME=/"
)

// WaitEnvironment is the whole environment of such a process.
func WaitEnvironment() []string { return []string{waitMarker, OneProcessor, waitHome} }

const waitBinaryFD = 6

func init() {
	if isStartedAs(waitMarker, OneProcessor, waitHome) {
		runtime.LockOSThread()
		runWait()
		syscall.Exit(NotExecuted)
	}
}

func runWait() {
	if _, errno := mapRecords(); errno != 0 {
		return // no record: nothing ran
	}
	// One by one: the container's filter may forbid more.
	for _, fd := range []int{recordFD, waitBinaryFD} {
		if syscall.Close(fd) != nil {
			return
		}
	}
	for _, fd := range []int{specFD, executedFD} {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, syscall.FD_CLOEXEC); errno != 0 {
			return
		}
	}
	if n, err := syscall.Write(executedFD, []byte{1}); n != 1 || err != nil {
		return
	}
	if spec, path, ok := prepare(true, nil); ok {
		executeAsWas(spec, path)
	}
}

// executeAsWas executes the program by package syscall, which so takes back what it
// changed when this process began: the limit of open files. Of another main process
// and of execs the Spec has that limit. Signals are left to the kernel, as the
// runtime leaves them: what is caught is so no longer.
func executeAsWas(spec *Spec, path string) {
	if _, _, _, ok := begin(spec, path); !ok {
		return
	}
	errno, _ := syscall.Exec(path, spec.Args, spec.Env).(syscall.Errno)
	report(RecordFailed, uint32(StepExecute), errno)
}
