package nsenter

import (
	"syscall"
	"unsafe"
)

const (
	prCapbsetDrop        = 24
	prSetKeepcaps        = 8
	prCapAmbient         = 47
	prCapAmbientRaise    = 2
	prCapAmbientClearAll = 4
	capabilityVersion3   = 0x20080522
	capabilities         = 64
)

// workingDirectory is entered like in the runtime, before and after the user
// changes: only the user may have access, or only root, and then the user stays
// in it.
type workingDirectory struct{ entered bool }

func (d *workingDirectory) enter(spec *Spec) syscall.Errno {
	errno := chdir(spec.Dir)
	d.entered = errno == 0
	if errno == syscall.EACCES || errno == syscall.EPERM {
		return 0 // perhaps only the user may enter
	}
	return errno
}

func (d *workingDirectory) enterAsUser(spec *Spec) syscall.Errno {
	if d.entered {
		return 0
	}
	return chdir(spec.Dir)
}

func chdir(dir string) syscall.Errno {
	name, err := syscall.BytePtrFromString(dir)
	if err != nil {
		return syscall.EINVAL
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(name)), 0, 0)
	return errno
}

// dropBounding removes all other capabilities from the bounding set.
func dropBounding(spec *Spec) syscall.Errno {
	for number := range capabilities {
		if spec.Bounding&(1<<number) != 0 {
			continue
		}
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapbsetDrop, uintptr(number), 0, 0, 0, 0)
		if errno == syscall.EINVAL {
			break // past the kernel's last
		}
		if errno != 0 {
			return errno
		}
	}
	return 0
}

// switchUser changes this thread's user and groups; package syscall's functions
// would change every thread's.
func switchUser(spec *Spec) syscall.Errno {
	_, _, _ = syscall.RawSyscall(syscall.SYS_UMASK, uintptr(spec.Umask&permissionsAllowed), 0, 0)
	// Capabilities are set afterwards.
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetKeepcaps, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	var groups *uint32
	if len(spec.Groups) > 0 {
		groups = &spec.Groups[0]
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(spec.Groups)), uintptr(unsafe.Pointer(groups)), 0); errno != 0 {
		return errno
	}
	gid, uid := uintptr(spec.GID), uintptr(spec.UID)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetKeepcaps, 0, 0, 0, 0, 0)
	return errno
}

func setCapabilities(spec *Spec) syscall.Errno {
	header := struct {
		version uint32
		pid     int32
	}{version: capabilityVersion3}
	var data [2]struct{ effective, permitted, inheritable uint32 }
	for half := range data {
		shift := 32 * half
		data[half].effective = uint32(spec.Effective >> shift)
		data[half].permitted = uint32(spec.Permitted >> shift)
		data[half].inheritable = uint32(spec.Inheritable >> shift)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientClearAll, 0, 0, 0, 0); errno != 0 && errno != syscall.EINVAL {
		return errno
	}
	for number := range capabilities {
		if spec.Ambient&(1<<number) == 0 {
			continue
		}
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientRaise, uintptr(number), 0, 0, 0); errno != 0 {
			return errno
		}
	}
	return 0
}
