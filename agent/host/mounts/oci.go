package mounts

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OCI is an element of an OCI configuration's `mounts`.
type OCI struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// attributesOf are the options that belong to a mount.
var attributesOf = map[string]unix.MountAttr{
	"ro": {Attr_set: unix.MOUNT_ATTR_RDONLY}, "rro": {Attr_set: unix.MOUNT_ATTR_RDONLY}, "rw": {Attr_clr: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {Attr_set: unix.MOUNT_ATTR_NOSUID}, "suid": {Attr_clr: unix.MOUNT_ATTR_NOSUID},
	"noexec": {Attr_set: unix.MOUNT_ATTR_NOEXEC}, "exec": {Attr_clr: unix.MOUNT_ATTR_NOEXEC},
	"nodev": {Attr_set: unix.MOUNT_ATTR_NODEV}, "dev": {Attr_clr: unix.MOUNT_ATTR_NODEV},
	"noatime":     {Attr_clr: unix.MOUNT_ATTR__ATIME, Attr_set: unix.MOUNT_ATTR_NOATIME},
	"strictatime": {Attr_clr: unix.MOUNT_ATTR__ATIME, Attr_set: unix.MOUNT_ATTR_STRICTATIME},
	"relatime":    {Attr_clr: unix.MOUNT_ATTR__ATIME, Attr_set: unix.MOUNT_ATTR_RELATIME},
	"nodiratime":  {Attr_set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {Attr_clr: unix.MOUNT_ATTR_NODIRATIME},
}

var propagationOf = map[string]uint64{
	"private": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "shared": unix.MS_SHARED, "unbindable": unix.MS_UNBINDABLE,
}

// Attach mounts a bind or tmpfs at target, which may be a /proc/self/fd path.
// source is the directory or file to bind, and may be such a path too.
func (m OCI) Attach(source, target string) error {
	var (
		flags   uint
		changes []change
		data    []string
	)
	for _, option := range m.Options {
		base, beneath := strings.CutPrefix(option, "r")
		attributes, known := attributesOf[option]
		switch {
		case known:
			changes = append(changes, change{option == "rro", attributes})
		case propagationOf[option] != 0:
			changes = append(changes, change{false, unix.MountAttr{Propagation: propagationOf[option]}})
		case beneath && propagationOf[base] != 0:
			changes = append(changes, change{true, unix.MountAttr{Propagation: propagationOf[base]}})
		case option == "rbind":
			flags = unix.AT_RECURSIVE
		case option != "bind":
			data = append(data, option)
		}
	}
	var tree int
	var err error
	switch {
	case m.Type == "tmpfs":
		tree, err = FileSystem{"tmpfs", "tmpfs", data}.Open()
	case m.Type != "bind" || len(data) > 0:
		err = fmt.Errorf("a mount of type %s with %q is not known", m.Type, data)
	default:
		tree, err = unix.OpenTree(unix.AT_FDCWD, source, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	}
	if err != nil {
		return &os.PathError{Op: "open mount", Path: m.Source, Err: err}
	}
	defer unix.Close(tree)
	for _, c := range changes {
		if err := c.apply(tree); err != nil {
			return &os.PathError{Op: "set mount attributes", Path: m.Source, Err: err}
		}
	}
	return Attach(tree, target)
}

// change is a change of the attributes of a mount, and perhaps of those beneath
// it.
type change struct {
	beneath    bool
	attributes unix.MountAttr
}

func (c change) apply(tree int) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if c.beneath {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(tree, "", flags, &c.attributes)
}
