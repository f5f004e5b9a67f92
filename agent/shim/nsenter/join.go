package nsenter

import (
	"syscall"
	"unsafe"
)

const (
	cloneNewCgroup     = 0x02000000
	namespaces         = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID | cloneNewCgroup
	keyctlJoinSession  = 1
	seccompSetFilter   = 1
	prSetNoNewPrivs    = 38
	instructionSize    = 8
	deviceNull         = 1<<8 | 3
	permissionsAllowed = 0o777
)

// joinCgroups moves this thread or process, and so its future children, into the
// container's groups: one for each hierarchy in version 1.
func joinCgroups(spec *Spec) syscall.Errno {
	for _, members := range spec.Cgroups {
		if errno := writeFile(members, "0"); errno != 0 {
			return errno
		}
	}
	return 0
}

func setOOMScore(spec *Spec) syscall.Errno {
	if spec.OOMScore == "" {
		return 0
	}
	return writeFile("/proc/self/oom_score_adj", spec.OOMScore)
}

func writeFile(name, content string) syscall.Errno {
	fd, err := syscall.Open(name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err.(syscall.Errno)
	}
	defer syscall.Close(fd)
	if _, err := syscall.Write(fd, []byte(content)); err != nil {
		return err.(syscall.Errno)
	}
	return 0
}

func setLimits(spec *Spec) syscall.Errno {
	for _, limit := range spec.Limits {
		value := [2]uint64{limit.Soft, limit.Hard}
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(limit.Resource), uintptr(unsafe.Pointer(&value)), 0, 0, 0); errno != 0 {
			return errno
		}
	}
	return 0
}

// joinNamespaces joins all namespaces of one process at once. The PID namespace
// applies only to the child.
func joinNamespaces(*Spec) syscall.Errno {
	// A thread that shares its working directory with others cannot change its
	// mount namespace.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_FS, 0, 0); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall(sysSetns, pidFD, namespaces, 0)
	return errno
}

func joinKeyring(spec *Spec) syscall.Errno {
	if spec.Keyring == "" {
		return 0
	}
	_, errno := joinSession(spec.Keyring)
	return errno
}

// joinSession joins the session keyring with a name, creating it if necessary,
// and returns its number; 0: the kernel has no keyrings.
func joinSession(keyring string) (number uintptr, errno syscall.Errno) {
	name, err := syscall.BytePtrFromString(keyring)
	if err != nil {
		return 0, syscall.EINVAL
	}
	number, _, errno = syscall.RawSyscall(syscall.SYS_KEYCTL, keyctlJoinSession, uintptr(unsafe.Pointer(name)), 0)
	if errno == syscall.ENOSYS {
		return 0, 0
	}
	return number, errno
}

// ownStreams gives the program's user the standard streams, so that it can open
// /dev/stdout and the like by name.
func ownStreams(spec *Spec) syscall.Errno {
	for fd := range 3 {
		var stat syscall.Stat_t
		if err := syscall.Fstat(fd, &stat); err != nil {
			return err.(syscall.Errno)
		}
		if stat.Mode&syscall.S_IFMT == syscall.S_IFCHR && stat.Rdev == deviceNull || stat.Uid == spec.UID {
			continue
		}
		if err := syscall.Fchown(fd, int(spec.UID), int(stat.Gid)); err != nil && err != syscall.EPERM && err != syscall.EROFS && err != syscall.EINVAL {
			return err.(syscall.Errno)
		}
	}
	return 0
}

func setNoNewPrivileges(spec *Spec) syscall.Errno {
	if !spec.NoNewPrivileges {
		return 0
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0)
	return errno
}

// loadFilterByPrivilege and loadFilterWithoutNewPrivileges load the filter as
// early or as late as the runtime does: a strict one permits little besides the
// program's own calls.
func loadFilterByPrivilege(spec *Spec) syscall.Errno {
	if spec.NoNewPrivileges {
		return 0
	}
	return loadFilter(spec)
}

func loadFilterWithoutNewPrivileges(spec *Spec) syscall.Errno {
	if !spec.NoNewPrivileges {
		return 0
	}
	return loadFilter(spec)
}

// loadFilter confines this thread and its children as the runtime confined the
// container's main process.
func loadFilter(spec *Spec) syscall.Errno {
	if len(spec.Filter) == 0 {
		return 0
	}
	program := struct {
		length       uint16
		instructions *byte
	}{uint16(len(spec.Filter) / instructionSize), &spec.Filter[0]}
	_, _, errno := syscall.RawSyscall(sysSeccomp, seccompSetFilter, 0, uintptr(unsafe.Pointer(&program)))
	return errno
}
