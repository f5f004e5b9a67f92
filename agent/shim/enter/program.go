package enter

import (
	"syscall"
	"unsafe"
)

const (
	signalMaskSize  = 8
	lastSignal      = 64
	sigSetMask      = 2
	executeByUser   = 1 // X_OK
	defaultPath     = ""
	pathVariable    = "PATH="
	exitNotExecuted = 127
)

// lookUp finds the program as the runtime does: by its user, in the directories
// of its own PATH. What it does not find the runtime does not find either, and
// then says so in its words.
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
			return "", syscall.ENOENT // relative: the runtime's own rules
		}
		if candidate := dir + "/" + name; isExecutable(candidate) {
			return candidate, 0
		}
	}
	return "", syscall.ENOENT
}

func isExecutable(name string) bool {
	var stat syscall.Stat_t
	return syscall.Stat(name, &stat) == nil &&
		stat.Mode&syscall.S_IFMT == syscall.S_IFREG &&
		syscall.Faccessat(-100, name, executeByUser, 0) == nil // AT_FDCWD
}

func contains(text string, wanted byte) bool {
	for i := range len(text) {
		if text[i] == wanted {
			return true
		}
	}
	return false
}

// execute makes the child that becomes the program. It returns in this process
// only.
func execute(spec *Spec, path string) {
	name, err := syscall.BytePtrFromString(path)
	argv, argvErr := syscall.SlicePtrFromStrings(spec.Args)
	envv, envvErr := syscall.SlicePtrFromStrings(spec.Env)
	if err != nil || argvErr != nil || envvErr != nil {
		report(RecordFailed, uint32(stepFork), syscall.EINVAL)
		return
	}
	report(RecordForking, 0, 0)
	child, errno := clone(name, &argv[0], &envv[0])
	if errno != 0 {
		report(RecordFailed, uint32(stepFork), errno)
		return
	}
	report(RecordChild, uint32(child), 0)
}

// clone forks. The child is alone with a copy of this thread's stack: it makes
// system calls, and nothing of Go's runtime works in it any more. Its memory is
// its own (no vfork), so that whoever gets hold of it in the container has
// nothing of ours.
//
//go:noinline
//go:norace
//go:nocheckptr
func clone(path *byte, argv, envv **byte) (child uintptr, errno syscall.Errno) {
	// No signal of Go's runtime may arrive in the child.
	all, none := ^uint64(0), uint64(0)
	var record [RecordSize]byte
	var byDefault [4]uint64 // struct sigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&all)), 0, signalMaskSize, 0, 0)
	child, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || child != 0 {
		return child, errno
	}
	for signal := uintptr(1); signal <= lastSignal; signal++ {
		// Go's handlers, and what the shim ignores.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, signalMaskSize, 0, 0)
	}
	at := stepFork
	if _, _, errno = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); errno == 0 {
		if _, _, errno = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&none)), 0, signalMaskSize, 0, 0); errno == 0 {
			at = stepExecute
			_, _, errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envv)))
		}
	}
	record[0] = byte(RecordFailed)
	record[1] = byte(at)
	record[5], record[6] = byte(errno), byte(errno>>8)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&record)), RecordSize)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, exitNotExecuted, 0, 0)
	}
}
