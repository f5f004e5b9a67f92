package nsenter

import (
	"runtime"
	"syscall"
	"unsafe"
)

// MainMarker, with OneProcessor, is the whole environment of a process that
// becomes the next main process of a container whose last one has ended. It is
// the first process of a PID namespace, so no tracer is there; it builds its root
// (Root), takes the program's identity and executes the program without a child.
// It inherits, beside the descriptors 0 to 4 of an exec,
//
//	fd 5   the write end of a pipe, whose end says that the program is executed
//	       or this process has ended; RecordForking is success, unless it was killed
//	fd 6…  Root.Namespaces namespaces, which it joins in their order
const MainMarker = "SOCKERLESS_AGENT_ENTER=main"

const (
	executedFD   = 5
	namespacesFD = 6

	closeRangeCloexec = 4
	unmountNoFollow   = 8
)

func init() {
	if isStartedAs(MainMarker, OneProcessor) {
		runtime.LockOSThread()
		runMain()
		syscall.Exit(NotExecuted)
	}
}

func runMain() {
	if _, errno := mapRecords(); errno != 0 {
		return // no record: nothing ran
	}
	root, directory := &rootMaker{}, &workingDirectory{}
	spec, path, ok := prepare([]preparation{ // in the runtime's order
		{stepCgroups, joinCgroups},
		{stepOOMScore, setOOMScore},
		{stepLimits, setLimits},
		{stepMachine, root.takeOfMachine},
		{stepNamespaces, joinKept},
		{stepRoot, root.pivot},
		{stepMounts, root.mountAll},
		{stepMasks, root.mask},
		{stepDescriptors, closeAllButExecuted},
		{stepKeyring, beginKeyring},
		{stepStreams, ownStreams},
		{stepNoNewPrivileges, setNoNewPrivileges},
		{stepFork, beginSession},
		{stepSeccomp, loadFilterByPrivilege},
		{StepDirectory, directory.enter},
		{stepBounding, dropBounding},
		{stepUser, switchUser},
		{stepCapabilities, setCapabilities},
		{StepDirectory, directory.enterAsUser},
		{stepSeccomp, loadFilterWithoutNewPrivileges},
	})
	if ok {
		executeHere(spec, path)
	}
}

// closeAllButExecuted closes every descriptor that the working directory, whose
// name the image chooses, could use to reach the machine.
func closeAllButExecuted(*Spec) syscall.Errno {
	if _, _, errno := syscall.RawSyscall(sysCloseRange, firstFD, executedFD-1, 0); errno != 0 {
		return errno
	}
	if errno := closeFrom(executedFD + 1); errno != 0 {
		return errno
	}
	_, _, errno := syscall.RawSyscall(sysCloseRange, executedFD, executedFD, closeRangeCloexec)
	return errno
}

func beginSession(*Spec) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	return errno
}

// joinKept joins the namespaces left by the last main process, and creates the
// program's own IPC namespace.
func joinKept(spec *Spec) syscall.Errno {
	// A thread that shares its working directory with others cannot change its
	// mount namespace.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_FS|syscall.CLONE_NEWIPC, 0, 0); errno != 0 {
		return errno
	}
	for n := range spec.Root.Namespaces {
		if _, _, errno := syscall.RawSyscall(sysSetns, uintptr(namespacesFD+n), 0, 0); errno != 0 {
			return errno
		}
	}
	// Memory that the last process left in /dev would be charged to the next
	// ones. Its null device also hides files of the old /proc, which nobody will
	// see.
	for _, name := range append([]string{"/dev"}, spec.Root.Masked...) {
		_ = syscall.Unmount(name, syscall.MNT_DETACH|unmountNoFollow)
	}
	// The other joined mounts stay as they are for the next step.
	_, _, errno := syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_NEWNS, 0, 0)
	return errno
}

// beginKeyring creates a session keyring under a name that is never reused, so
// nobody has joined it. Its permissions are the runtime's.
func beginKeyring(spec *Spec) syscall.Errno {
	keyring, errno := joinSession(spec.Keyring)
	if errno != 0 || keyring == 0 {
		return errno
	}
	_, _, errno = syscall.RawSyscall(syscall.SYS_KEYCTL, keyctlSetPermissions, keyring, sessionKeyringPermissions)
	return errno
}

const (
	keyctlSetPermissions = 5
	// The kernel's defaults for a session keyring, and search for its user.
	sessionKeyringPermissions = 0x3f1b0000
)

// executeHere executes the program in this process. It returns only on failure.
//
//go:norace
//go:nocheckptr
func executeHere(spec *Spec, path string) {
	name, argv, envv, ok := begin(spec, path)
	if !ok {
		return
	}
	// No signal may reach Go's runtime once its handlers are gone.
	all, none := ^uint64(0), uint64(0)
	var byDefault [4]uint64 // struct sigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&all)), 0, signalMaskSize, 0, 0)
	for signal := uintptr(1); signal <= lastSignal; signal++ {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, signalMaskSize, 0, 0)
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&none)), 0, signalMaskSize, 0, 0)
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	report(RecordFailed, uint32(StepExecute), errno)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, NotExecuted, 0, 0)
	}
}
