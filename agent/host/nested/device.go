package nested

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// Device is an element of an OCI configuration's `linux.devices`.
type Device struct {
	Path     string  `json:"path"`
	Type     string  `json:"type"`
	Major    int64   `json:"major"`
	Minor    int64   `json:"minor"`
	FileMode *uint32 `json:"fileMode,omitempty"`
	UID      uint32  `json:"uid"`
	GID      uint32  `json:"gid"`
}

// kinds are the mode bits by `type`.
var kinds = map[string]uint32{"b": unix.S_IFBLK, "c": unix.S_IFCHR, "u": unix.S_IFCHR, "p": unix.S_IFIFO}

// defaultMode is the OCI runtime's.
const defaultMode = 0o666

// make creates the device; like the OCI runtime, it accepts an existing file.
func (d Device) make(root *confined.Root) error {
	kind, known := kinds[d.Type]
	if !known {
		return fmt.Errorf("a device of type %q is not known", d.Type)
	}
	mode := uint32(defaultMode)
	if d.FileMode != nil {
		mode = *d.FileMode
	}
	parent, err := root.MakeDirectories(path.Dir(d.Path), nil)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := path.Base(d.Path)
	err = unix.Mknodat(parent, name, kind|mode&0o7777, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Fchownat(parent, name, int(d.UID), int(d.GID), unix.AT_SYMLINK_NOFOLLOW)
}
