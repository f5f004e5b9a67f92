package nsenter

import (
	"syscall"
	"unsafe"
)

const (
	terminalMultiplexer = 5<<8 | 2
	devptsMagic         = 0x1cd1
	tiocgptpeer         = 0x5441
)

// openTerminal opens a pseudo-terminal of the container, sends its master to the
// shim, and makes its other side the standard streams. The container's /dev/ptmx
// is verified, since it may be another file.
func openTerminal(spec *Spec) syscall.Errno {
	if !spec.Terminal {
		return 0
	}
	// Non-blocking, since the shim polls the master.
	master, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err.(syscall.Errno)
	}
	var stat syscall.Stat_t
	var system syscall.Statfs_t
	if syscall.Fstat(master, &stat) != nil || syscall.Fstatfs(master, &system) != nil ||
		stat.Mode&syscall.S_IFMT != syscall.S_IFCHR || stat.Rdev != terminalMultiplexer || int64(system.Type) != devptsMagic {
		return syscall.ENODEV
	}
	unlocked := int32(0)
	if errno := control(master, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlocked))); errno != 0 {
		return errno
	}
	if spec.Rows > 0 && spec.Columns > 0 {
		size := [4]uint16{uint16(spec.Rows), uint16(spec.Columns)} // struct winsize
		if errno := control(master, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
			return errno
		}
	}
	// Through its master, not by a name that the container could have changed.
	other, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(master), tiocgptpeer, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
	if errno != 0 {
		return errno
	}
	for fd := range 3 {
		if err := syscall.Dup3(int(other), fd, 0); err != nil {
			return err.(syscall.Errno)
		}
	}
	if err := syscall.Sendmsg(consoleFD, []byte{0}, syscall.UnixRights(master), nil, 0); err != nil {
		return err.(syscall.Errno)
	}
	return 0
}

func control(fd int, request, argument uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), request, argument)
	return errno
}
