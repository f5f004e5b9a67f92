package shim

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/stdio"
)

// nullOpener opens a process's unwanted stream.
type nullOpener = func() (*os.File, error)

// openOwnNull opens a separate null device for an exec: a program may change the
// mode and owner of what it has open, and the machine's device is shared. A main
// process gets its root's device from the runtime or package nsenter. The
// machine's is the fallback where the kernel cannot mount for one process alone.
func openOwnNull() (*os.File, error) { return ownNull.open() }

// ownNull is this shim's device.
var ownNull = nullDevice{create: makeNull}

// nullDevice is a device that is made when it is needed.
type nullDevice struct {
	create func() (*os.File, error)

	mu   sync.Mutex
	node *os.File
}

func (d *nullDevice) open() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node == nil {
		node, err := d.create()
		if isShortage(err) {
			return nil, err // which passes, and must not give the machine's away
		}
		if err != nil {
			return stdio.OpenNull()
		}
		d.node = node
	}
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", d.node.Fd()), os.O_RDWR, 0)
}

func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOSPC)
}

// makeNull makes a device in a file system that is mounted nowhere. Its path there
// equals the machine's: programs read the path of their descriptors.
func makeNull() (*os.File, error) {
	const directory, name = "dev", "dev/null"
	system, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a file system: %w", err)
	}
	defer unix.Close(system)
	if err := unix.FsconfigCreate(system); err != nil {
		return nil, fmt.Errorf("make a file system: %w", err)
	}
	mount, err := unix.Fsmount(system, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount a file system: %w", err)
	}
	defer unix.Close(mount)
	err = errors.Join(
		unix.Mkdirat(mount, directory, 0o755),
		unix.Mknodat(mount, name, unix.S_IFCHR, int(unix.Mkdev(1, 3))),
		unix.Fchmodat(mount, name, 0o666, 0),
	)
	if err != nil {
		return nil, fmt.Errorf("make a null device: %w", err)
	}
	node, err := unix.Openat(mount, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a null device: %w", err)
	}
	return os.NewFile(uintptr(node), os.DevNull), nil
}
