// Package nested makes those mounts and devices of a container that lie inside
// its bind mounts. Others can change these meanwhile, and lead an OCI runtime
// that works by path out of the container's root.
package nested

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes"
)

// Name is the name of the mode.
const Name = "mount-nested"

// Main is `sockerless-agent mount-nested FILE ROOT`, a createContainer hook of
// the OCI runtime: it runs in the container's mount namespace, whose root is
// still the machine's, after all other mounts and devices exist at ROOT. FILE
// holds a Content. It returns the process's exit code.
func Main(arguments []string) int {
	if len(arguments) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sockerless-agent mount-nested FILE ROOT")
		return 2
	}
	unix.Umask(0) // devices get exactly the requested mode
	if err := makeAll(arguments[0], arguments[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Content lists what to make, in this order.
type Content struct {
	Mounts  []Mount  `json:"mounts"`
	Devices []Device `json:"devices"`
}

// Mount is an element of an OCI configuration's `mounts`.
type Mount struct {
	mounts.OCI
	// Volume is the directory that no link in the source leads out of. Empty: the
	// source is the user's own path.
	Volume string `json:"volume,omitempty"`
}

// IsEmpty reports whether there is nothing to make.
func (c Content) IsEmpty() bool { return len(c.Mounts)+len(c.Devices) == 0 }

func makeAll(file, directory string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var content Content
	if err := json.Unmarshal(data, &content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	root, err := confined.Open(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range content.Mounts {
		if err := mountOne(root, m); err != nil {
			return fmt.Errorf("error mounting %q to rootfs at %q: %w", m.Source, m.Destination, err)
		}
	}
	for _, d := range content.Devices {
		if err := d.make(root); err != nil {
			return fmt.Errorf("error creating device nodes: mknod %s: %w", d.Path, err)
		}
	}
	return nil
}

func mountOne(root *confined.Root, m Mount) error {
	m.Options = likeWhatIsThere(root, m)
	source, target, err := openBoth(root, m)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if source != nil {
		defer source.Close()
	}
	var system unix.Statfs_t
	if err := unix.Fstatfs(target, &system); err != nil {
		return err
	}
	if system.Type == unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("%q cannot be mounted because it is inside /proc", m.Destination)
	}
	if source != nil {
		return m.Attach(descriptorPath(int(source.Fd())), descriptorPath(target))
	}
	return m.Attach("", descriptorPath(target))
}

// likeWhatIsThere gives a new file system the mode of its mount point, unless its
// options set one.
func likeWhatIsThere(root *confined.Root, m Mount) []string {
	var at unix.Stat_t
	fd, err := root.Open(m.Destination, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil { // it is not there yet
		return m.Options
	}
	defer unix.Close(fd)
	if m.Type != "tmpfs" || unix.Fstat(fd, &at) != nil {
		return m.Options
	}
	return append([]string{fmt.Sprintf("mode=%04o", at.Mode&0o7777)}, m.Options...)
}

// openBoth opens the source, nil for a new file system, and the mount point,
// which it creates if it is missing.
func openBoth(root *confined.Root, m Mount) (source *os.File, target int, err error) {
	isDirectory := true
	if m.Type != "tmpfs" {
		if source, err = m.open(); err != nil {
			return nil, -1, err
		}
		info, err := source.Stat()
		if err != nil {
			source.Close()
			return nil, -1, err
		}
		isDirectory = info.IsDir()
	}
	if isDirectory {
		target, err = root.MakeDirectories(m.Destination, nil)
	} else {
		target, err = root.MakeFile(m.Destination)
	}
	if err != nil && source != nil {
		source.Close()
	}
	return source, target, err
}

// open opens the source of a bind (O_PATH).
func (m Mount) open() (*os.File, error) {
	if m.Volume == "" {
		return os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	part, err := filepath.Rel(m.Volume, m.Source)
	if err != nil {
		return nil, err
	}
	return volumes.OpenPart(m.Volume, part)
}

func descriptorPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
