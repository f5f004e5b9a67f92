package setpriv

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// executeFiltered loads the program's filter into this thread, the only one that
// survives the execution, and executes. It returns the error of either.
//
// INVARIANT: between the two there is no other system call, since the filter may
// forbid any. If it forbids execve(2), the failure is reported as far as it
// permits write(2).
func executeFiltered(path string, spec *Spec) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(spec.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(spec.Env)
	if err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(spec.Filter.Instructions)), Filter: unsafe.SliceData(spec.Filter.Instructions)}
	// Go has raised its own soft limit of open files. A failing execution
	// restores it, and the raw one that follows would not.
	_ = syscall.Exec("", []string{""}, nil)
	debug.SetGCPercent(-1) // the garbage collector makes system calls
	_, _, loaded := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, spec.Filter.Flags, uintptr(unsafe.Pointer(&filter)))
	if loaded != 0 {
		return fmt.Errorf("load the seccomp filter: %w", loaded)
	}
	_, _, executed := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	runtime.KeepAlive(spec)
	return executed
}
