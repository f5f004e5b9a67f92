package shim

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ptraceSeccompGetFilter is missing from package unix.
const ptraceSeccompGetFilter = 0x420c

// filterInstruction is the size of a BPF instruction.
const filterInstruction = 8

// errManyFilters means that several filters confine the process together.
var errManyFilters = errors.New("the process has more than one seccomp filter")

// seccompFilterOf reads the only seccomp filter of a child that has one thread,
// or whose first thread has it. These are the kernel's instructions, whatever the
// runtime made of the profile. The child is stopped for a moment, so it must not
// run a user's program yet, which could notice. The caller must keep others from
// waiting for the child.
func seccompFilterOf(pid int) (_ []byte, err error) {
	// A tracer is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("trace the container's process: %w", err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, fmt.Errorf("stop the container's process: %w", err) // it has ended
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return nil, fmt.Errorf("wait for the container's process to stop: %w", err)
		}
	}
	defer func() {
		if detachErr := unix.PtraceDetach(pid); err == nil && detachErr != nil {
			err = fmt.Errorf("let the container's process go on: %w", detachErr)
		}
	}()
	if _, err := readFilter(pid, 1, nil); err == nil {
		return nil, errManyFilters
	} else if !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	count, err := readFilter(pid, 0, nil)
	if err != nil {
		return nil, err
	}
	filter := make([]byte, count*filterInstruction)
	_, err = readFilter(pid, 0, filter)
	return filter, err
}

// readFilter returns the number of instructions of the filter with that index.
func readFilter(pid, index int, into []byte) (int, error) {
	count, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceSeccompGetFilter, uintptr(pid), uintptr(index), uintptr(unsafe.Pointer(unsafe.SliceData(into))), 0, 0)
	if errno != 0 {
		return 0, fmt.Errorf("read the container's seccomp filter: %w", errno)
	}
	return int(count), nil
}
