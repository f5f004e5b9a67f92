package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/netns"
)

// onThreadIn is netns.Inside with a handle of the namespace.
func onThreadIn(namespace int, work func(*netlink.Handle) error) error {
	return netns.Inside(namespace, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		return work(handle)
	})
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
	err = onThreadIn(netns.New, func(handle *netlink.Handle) error {
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
