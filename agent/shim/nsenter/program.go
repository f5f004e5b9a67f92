package nsenter

import (
	"syscall"
	"unsafe"
)

const (
	signalMaskSize   = 8
	lastSignal       = 64
	sigSetMask       = 2
	executeByUser    = 1 // X_OK
	executeByAnybody = 0o111
	defaultPath      = ""
	pathVariable     = "PATH="
)

// NotExecuted is the exit code of a process that fails to become the program.
const NotExecuted = 127

// lookUp finds the program as the runtime does: as its user, in its own PATH. If
// lookUp fails, so does the runtime, which words the error.
func lookUp(spec *Spec) (string, syscall.Errno) {
	name := spec.Args[0]
	if contains(name, '/') {
		return name, 0
	}
	path := defaultPath
	for _, entry := range spec.Env {
		if len(entry) >= len(pathVariable) && entry[:len(pathVariable)] == pathVariable {
			path = entry[len(pathVariable):]
		}
	}
	for len(path) > 0 {
		dir := path
		for i := range len(path) {
			if path[i] == ':' {
				dir = path[:i]
				break
			}
		}
		path = path[min(len(path), len(dir)+1):]
		if len(dir) == 0 || dir[0] != '/' {
			return "", syscall.ENOENT // relative: by the runtime's rules
		}
		candidate := dir + "/" + name
		if isExecutable(candidate) {
			return candidate, 0
		}
	}
	return "", syscall.ENOENT
}

func isExecutable(name string) bool {
	var stat syscall.Stat_t
	if syscall.Stat(name, &stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFREG || stat.Mode&executeByAnybody == 0 {
		return false
	}
	return syscall.Faccessat(-100, name, executeByUser, 0) == nil // AT_FDCWD
}

func contains(text string, wanted byte) bool {
	for i := range len(text) {
		if text[i] == wanted {
			return true
		}
	}
	return false
}

// rehearseFork makes those of the child's system calls that are possible here: a
// filter that kills for one of them then ends this process, and the runtime takes
// over, instead of the child, whose end would look like the program's.
func rehearseFork(spec *Spec) syscall.Errno {
	_, _, _ = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, lastSignal, 0, 0, signalMaskSize, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, 0, 0, signalMaskSize, 0, 0)
	if spec.Terminal {
		noDescriptor := ^uintptr(0)
		_, _, _ = syscall.RawSyscall(syscall.SYS_IOCTL, noDescriptor, syscall.TIOCSCTTY, 0)
	}
	return 0
}

// begin converts a program for execve, and reports that execution begins. ok is
// false after a reported failure.
func begin(spec *Spec, path string) (name *byte, argv, envv []*byte, ok bool) {
	name, err := syscall.BytePtrFromString(path)
	argv, argvErr := syscall.SlicePtrFromStrings(spec.Args)
	envv, envvErr := syscall.SlicePtrFromStrings(spec.Env)
	if err != nil || argvErr != nil || envvErr != nil {
		report(RecordFailed, uint32(stepFork), syscall.EINVAL)
		return nil, nil, nil, false
	}
	report(RecordForking, 0, 0)
	return name, argv, envv, true
}

// execute creates the child that becomes the program, and waits until it has or
// has left its error in failed. It returns only in this process.
func execute(spec *Spec, path string, failed []byte) {
	name, argv, envv, ok := begin(spec, path)
	if !ok {
		return
	}
	var terminal uintptr
	if spec.Terminal {
		terminal = 1
	}
	child, errno := clone(name, &argv[0], &envv[0], terminal, &failed[0], &failed[1])
	switch {
	case errno != 0:
		report(RecordFailed, uint32(stepFork), errno)
	case failed[0] != 0:
		report(RecordFailed, uint32(failed[0]), syscall.Errno(failed[1]))
	default:
		report(RecordChild, uint32(child), 0)
	}
}

// clone forks, and waits in this process until the child has executed or ended.
// The child has only a copy of this thread's stack: it makes system calls, and
// Go's runtime no longer works in it. Its memory is separate (no CLONE_VM), so
// that a process that takes it over in the container gets nothing of ours. If it fails
// to execute, it leaves the step and the error.
//
//go:noinline
//go:norace
//go:nocheckptr
func clone(path *byte, argv, envv **byte, terminal uintptr, failedAt, failure *byte) (child uintptr, errno syscall.Errno) {
	// No signal may reach Go's runtime in the child.
	all, none := ^uint64(0), uint64(0)
	var byDefault [4]uint64 // struct sigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&all)), 0, signalMaskSize, 0, 0)
	child, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_PARENT|syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || child != 0 {
		return child, errno
	}
	for signal := uintptr(1); signal <= lastSignal; signal++ {
		// Go's handlers, and signals that the shim ignores.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, signalMaskSize, 0, 0)
	}
	at := stepFork
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); errno == 0 && terminal != 0 {
		_, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 0)
	}
	if errno == 0 {
		if _, _, errno = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&none)), 0, signalMaskSize, 0, 0); errno == 0 {
			at = StepExecute
			_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envv)))
		}
	}
	*failedAt, *failure = byte(at), byte(errno) // execve's are all below 256
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, NotExecuted, 0, 0)
	}
}
