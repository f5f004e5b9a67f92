package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onThreadIn runs work on a thread inside a network namespace: a new one, or that
// of an open descriptor. The handle is the namespace's. Go's scheduler gets the thread back only if it has
// returned to the machine's namespace.
func onThreadIn(namespace int, work func(*netlink.Handle) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer own.Close()
		if namespace == newNamespace {
			err = unix.Unshare(unix.CLONE_NEWNET)
		} else {
			err = unix.Setns(namespace, unix.CLONE_NEWNET)
		}
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = withHandle(work)
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

const newNamespace = -1

func withHandle(work func(*netlink.Handle) error) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	return work(handle)
}

// createNamespace creates a network namespace, bound at path. prepare runs inside
// before anybody can see it.
func createNamespace(path string, prepare func(*netlink.Handle) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	file.Close()
	err = onThreadIn(newNamespace, func(handle *netlink.Handle) error {
		if err := prepare(handle); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create network namespace: %w", err), os.Remove(path))
	}
	return nil
}

// deleteNamespace unbinds the namespace at path; its last process ends it. A
// missing one is not an error.
func deleteNamespace(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
