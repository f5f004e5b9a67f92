package nsenter

import (
	"syscall"
	"unsafe"
)

// Root is the root file system that a main process builds for itself. All targets
// are absolute, clean and without links.
type Root struct {
	Overlay    string // where it is mounted on the machine
	Namespaces uint32 // how many are joined: the last one is that of mounts
	Mounts     []Mount
	Devices    []Device // of what is mounted at /dev; directories before what they hold
	Masked     []string // shown empty
	ReadOnly   []string
}

// Mount is one mount of a root; their order counts.
type Mount struct {
	Type   string // of a file system, or one of the two below
	Source string
	Target string
	Flags  uint32 // of mount(2)
	Data   string
}

// Types of mounts other than file systems.
const (
	MountFile = "bind" // Source is a file of the machine
	MountKept = "kept" // what the last main process had there, with all beneath
)

// Device is an initial file of a root's /dev.
type Device struct {
	Name           string // beneath /dev
	Mode, UID, GID uint32 // Mode with the type, as stat(2) has it
	Number         uint64 // of a device
	Link           string // of a link
}

const (
	atFDCWD             = ^uintptr(99)
	atEmptyPath         = 0x1000
	atSymlinkNoFollow   = 0x100
	atRecursive         = 0x8000
	openTreeClone       = 1
	openTreeCloexec     = syscall.O_CLOEXEC
	moveEmptyFrom       = 0x04
	moveEmptyTo         = 0x40
	resolveNoMagicLinks = 0x02
	resolveNoSymlinks   = 0x04
	resolveBeneath      = 0x08
	pathOnly            = 0x200000 // O_PATH
	mountAttrReadOnly   = 0x01
)

// rootMaker builds a Root.
type rootMaker struct {
	root  uintptr
	files []uintptr // of MountFile, in their order
}

// takeOfMachine opens files of the machine before the process leaves its mount
// namespace. Mounts of a peer group would propagate to their peers.
func (r *rootMaker) takeOfMachine(spec *Spec) (errno syscall.Errno) {
	// As the runtime sets it.
	if r.root, errno = cloneTree(atFDCWD, spec.Root.Overlay, 0, mountAttributes{propagation: syscall.MS_SLAVE}); errno != 0 {
		return errno
	}
	for _, mount := range spec.Root.Mounts {
		if mount.Type != MountFile {
			continue
		}
		file, errno := cloneTree(atFDCWD, mount.Source, 0, mountAttributes{propagation: syscall.MS_PRIVATE})
		if errno != 0 {
			return errno
		}
		r.files = append(r.files, file)
	}
	return 0
}

// pivot makes the overlay the root, with the reused mounts.
func (r *rootMaker) pivot(spec *Spec) syscall.Errno {
	// Any place would do: it disappears with the old root.
	place, errno := openTree(atFDCWD, "/proc", 0)
	if errno != 0 {
		return errno
	}
	if errno := moveMount(r.root, place); errno != 0 {
		return errno
	}
	for _, mount := range spec.Root.Mounts {
		if mount.Type != MountKept {
			continue
		}
		from, errno := openTree(atFDCWD, mount.Target, 0)
		if errno != 0 {
			return errno
		}
		to, errno := r.open(mount.Target)
		if errno != 0 {
			return errno
		}
		if errno := moveMount(from, to); errno != 0 {
			return errno
		}
	}
	if errno := fchdir(r.root); errno != 0 {
		return errno
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return err.(syscall.Errno)
	}
	// The old root now lies over the new one.
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return err.(syscall.Errno)
	}
	return chdir("/")
}

// mountAll mounts what only the program sees.
func (r *rootMaker) mountAll(spec *Spec) syscall.Errno {
	_, _, _ = syscall.RawSyscall(syscall.SYS_UMASK, 0, 0, 0)
	files := r.files
	for _, mount := range spec.Root.Mounts {
		if mount.Type == MountKept {
			continue
		}
		to, errno := r.open(mount.Target)
		if errno != 0 {
			return errno
		}
		if mount.Type == MountFile {
			errno = moveMount(files[0], to)
			files = files[1:]
		} else {
			errno = mountAt(to, mount)
		}
		if errno == 0 && mount.Target == "/dev" {
			errno = r.makeDevices(spec.Root.Devices)
			if errno == 0 {
				errno = reopenNull()
			}
		}
		if errno != 0 {
			return errno
		}
	}
	return chdir("/")
}

func (r *rootMaker) makeDevices(devices []Device) syscall.Errno {
	at, errno := r.open("/dev")
	if errno != 0 {
		return errno
	}
	for _, device := range devices {
		name, err := syscall.BytePtrFromString(device.Name)
		if err != nil {
			return syscall.EINVAL
		}
		file := uintptr(unsafe.Pointer(name))
		switch device.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			_, _, errno = syscall.RawSyscall(syscall.SYS_MKDIRAT, at, file, uintptr(device.Mode&^syscall.S_IFMT))
		case syscall.S_IFLNK:
			link, err := syscall.BytePtrFromString(device.Link)
			if err != nil {
				return syscall.EINVAL
			}
			_, _, errno = syscall.RawSyscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(link)), at, file)
		default:
			_, _, errno = syscall.RawSyscall6(syscall.SYS_MKNODAT, at, file, uintptr(device.Mode), uintptr(device.Number), 0, 0)
		}
		if errno == 0 {
			_, _, errno = syscall.RawSyscall6(syscall.SYS_FCHOWNAT, at, file, uintptr(device.UID), uintptr(device.GID), atSymlinkNoFollow, 0)
		}
		if errno != 0 {
			return errno
		}
	}
	return 0
}

// reopenNull replaces the machine's null device by the root's own, as the runtime
// does: the program may change the mode and the owner of what it has open.
func reopenNull() syscall.Errno {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err.(syscall.Errno)
	}
	if !isNull(null) {
		return syscall.ENODEV
	}
	for fd := range firstFD {
		if !isNull(fd) {
			continue
		}
		if err := syscall.Dup3(null, fd, 0); err != nil {
			return err.(syscall.Errno)
		}
	}
	return 0
}

func isNull(fd int) bool {
	var stat syscall.Stat_t
	return syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFCHR && stat.Rdev == deviceNull
}

// mask makes paths read-only, and then hides others. A path that the kernel does
// not have needs neither.
func (r *rootMaker) mask(spec *Spec) syscall.Errno {
	for _, name := range spec.Root.ReadOnly {
		to, errno := r.open(name)
		if errno == syscall.ENOENT {
			continue
		}
		if errno != 0 {
			return errno
		}
		readOnly, errno := cloneTree(to, "", atEmptyPath|atRecursive, mountAttributes{set: mountAttrReadOnly})
		if errno != 0 {
			return errno
		}
		if errno := moveMount(readOnly, to); errno != 0 {
			return errno
		}
	}
	for _, name := range spec.Root.Masked {
		to, errno := r.open(name)
		if errno == syscall.ENOENT {
			continue
		}
		if errno == 0 {
			errno = r.hide(to)
		}
		if errno != 0 {
			return errno
		}
	}
	return chdir("/")
}

func (r *rootMaker) hide(fd uintptr) syscall.Errno {
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(fd), &stat); err != nil {
		return err.(syscall.Errno)
	}
	if stat.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return mountAt(fd, Mount{Type: "tmpfs", Source: "tmpfs", Flags: syscall.MS_RDONLY})
	}
	null, errno := r.open("/dev/null")
	if errno != 0 {
		return errno
	}
	if !isNull(int(null)) {
		return syscall.ENODEV
	}
	nothing, errno := cloneTree(null, "", atEmptyPath, mountAttributes{})
	if errno != 0 {
		return errno
	}
	return moveMount(nothing, fd)
}

// open opens a path of the root. It follows no link: if the image has one, the
// runtime is needed.
func (r *rootMaker) open(name string) (uintptr, syscall.Errno) {
	path, err := syscall.BytePtrFromString(name[1:])
	if err != nil {
		return 0, syscall.EINVAL
	}
	how := [3]uint64{pathOnly | syscall.O_CLOEXEC, 0, resolveBeneath | resolveNoSymlinks | resolveNoMagicLinks}
	fd, _, errno := syscall.RawSyscall6(sysOpenat2, r.root, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	return fd, errno
}

// mountAt mounts a file system on a directory.
func mountAt(directory uintptr, mount Mount) syscall.Errno {
	if errno := fchdir(directory); errno != 0 {
		return errno
	}
	if err := syscall.Mount(mount.Source, ".", mount.Type, uintptr(mount.Flags), mount.Data); err != nil {
		return err.(syscall.Errno)
	}
	return 0
}

// mountAttributes is the kernel's struct mount_attr.
type mountAttributes struct{ set, clear, propagation, userNamespace uint64 }

// cloneTree clones a mount, still detached, and sets its attributes.
func cloneTree(at uintptr, name string, flags uintptr, attributes mountAttributes) (uintptr, syscall.Errno) {
	tree, errno := openTree(at, name, flags|openTreeClone)
	if errno != 0 || attributes == (mountAttributes{}) {
		return tree, errno
	}
	empty := [1]byte{}
	_, _, errno = syscall.RawSyscall6(sysMountSetattr, tree, uintptr(unsafe.Pointer(&empty)), atEmptyPath,
		uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes), 0)
	return tree, errno
}

func openTree(at uintptr, name string, flags uintptr) (uintptr, syscall.Errno) {
	path, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, syscall.EINVAL
	}
	fd, _, errno := syscall.RawSyscall(sysOpenTree, at, uintptr(unsafe.Pointer(path)), flags|openTreeCloexec)
	return fd, errno
}

func moveMount(from, to uintptr) syscall.Errno {
	empty := [1]byte{}
	name := uintptr(unsafe.Pointer(&empty))
	_, _, errno := syscall.RawSyscall6(sysMoveMount, from, name, to, name, moveEmptyFrom|moveEmptyTo, 0)
	return errno
}

func fchdir(fd uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_FCHDIR, fd, 0, 0)
	return errno
}
